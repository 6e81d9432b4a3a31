"""A decoder's loop: T steps that read nothing of the sequence, each fed by what the one before gave.

Its values have all seen the whole sequence, or nothing of it, so no mark says to which step they belong. What tells is
the stack of what the steps gave: each part needs the one before and something new, and what is new is the same for
each. Marked as if every step had read one of a sequence, they are a loop like any other, at a later stage. Where the
stack is against their order, ``outputs[::-1]``, that loop runs backwards, so that a short row begins at its own end.

Rules of this file: it marks values and judges nothing; where there is no such stack, that is a NoLoopError.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import torch

from .loop import NONE_FOUND, Loop, NoLoopError
from .value import Ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .unrolled import Unrolled

_STACKS: Final = frozenset({torch.ops.aten.stack.default, torch.ops.aten.cat.default})


def mark_fed_back(unrolled: Unrolled, loops: Sequence[Loop]) -> None:
    """Mark the steps of a decoder's loop in ``unrolled.values``.

    Args:
        unrolled: the values; changed.
        loops: that were found without it.

    Raises:
        NoLoopError: there is none.
    """
    taken = {number for loop in loops for iteration in loop.iterations for number in iteration if number is not None}
    for number in unrolled.reachable():
        value = unrolled.values[number]
        if value.target not in _STACKS or len(value.args[0]) != unrolled.steps:
            continue
        parts = [part.number for part in value.args[0]]
        for reverse in (False, True):
            iterations = _iterations(unrolled, parts[::-1] if reverse else parts, taken)
            if iterations:
                _mark(unrolled, iterations, reverse=reverse)
                return
    raise NoLoopError(NONE_FOUND)


def _iterations(unrolled: Unrolled, gave: list[int], taken: set[int]) -> list[set[int]]:
    """Return the values of each iteration, of what each gave; none where that is no such loop."""
    begin, *new = _new_of_each(unrolled, gave, taken)
    elements = [{n for n in later if unrolled.values[n].target is operator.getitem} for later in new]
    # An element that only the next step reads, as the cell state of a pair is, belongs to the step that made the pair.
    moved = [
        {n for n in found if not set(unrolled.values[n].reads()).isdisjoint(earlier)}
        for found, earlier in zip(elements, [begin, *new], strict=False)
    ]
    new = [(own - out) | late for own, out, late in zip(new, moved, [*moved[1:], set()], strict=True)]
    *orders, last = [sorted(one) for one in new]
    if not orders[0] or len({tuple(unrolled.values[n].target for n in one) for one in orders}) > 1:
        return []
    first = _First(unrolled, orders[0], orders[1], taken)
    first.match(gave[1], gave[0])
    counterparts = set(first.alike.values())
    if gave[1] not in first.alike or any(counterparts.isdisjoint(unrolled.values[n].reads()) for n in moved[0]):
        return []
    # What has no counterpart in the first, such as a cell that runs when its step has answered, ends the one before.
    whole = [
        n in first.alike or (n in moved[1] and set(unrolled.values[n].reads()) <= first.alike.keys()) for n in orders[0]
    ]
    kept = [own for own, n in zip(whole, orders[-1], strict=True) if n not in moved[-1]]
    if len(kept) != len(last):
        return []
    answers = [counterparts | moved[0], *({n for n, own in zip(one, whole, strict=True) if own} for one in orders)]
    answers.append({n for n, own in zip(last, kept, strict=True) if own})
    ends = [one - answer for one, answer in zip(new, answers[1:], strict=True)]
    return [answer | end for answer, end in zip(answers, [*ends, set()], strict=True)]


def _new_of_each(unrolled: Unrolled, gave: list[int], taken: set[int]) -> list[set[int]]:
    """Return what the first step needs, without other loops, and what each later one needs beside it."""
    needed = [_needed(unrolled, number) for number in gave]
    # What two later steps read, the second may be the first to need: weights, what is made of the last state.
    third, fourth = ({r for n in needed[k] - needed[k - 1] for r in unrolled.values[n].reads()} for k in (2, 3))
    before = needed[0] | taken
    for number in third & fourth & needed[1]:
        before |= _needed(unrolled, number)
    return [needed[0] - taken, *(later - earlier - before for earlier, later in pairwise(needed))]


def _needed(unrolled: Unrolled, number: int) -> set[int]:
    """Return a value and all that it needs."""
    needed, open_ = set(), [number]
    while open_:
        one = open_.pop()
        if one not in needed:
            needed.add(one)
            open_ += unrolled.values[one].reads()
    return needed


class _First:
    """What of the first iteration does what new values of the second do.

    Attributes:
        alike: for values of the second that of the first.
    """

    def __init__(self, unrolled: Unrolled, second: list[int], third: list[int], taken: set[int]) -> None:
        self._values = unrolled.values
        self._twins = dict(zip(second, third, strict=True))
        self._taken = taken
        self.alike: dict[int, int] = {}

    def match(self, later: int, first: int) -> None:
        """Follow what both read, as far as it is alike and computed anew at each step."""
        one, other = self._values[later], self._values[first]
        if later not in self._twins or later in self.alike or first in self._taken or one.target != other.target:
            return
        twin = self._values[self._twins[later]]
        if self._agree((one.args, one.kwargs), (other.args, other.kwargs), (twin.args, twin.kwargs)):
            self.alike[later] = first
            for a, b in zip(one.reads(), other.reads(), strict=True):
                self.match(a, b)

    def _agree(self, a: Any, b: Any, twin: Any) -> bool:
        """Whether arguments differ only where they differ from one later step to the next as well."""
        if isinstance(a, tuple) and isinstance(b, tuple):
            return len(a) == len(b) and all(self._agree(*parts) for parts in zip(a, b, twin, strict=True))
        if isinstance(a, Ref) and isinstance(b, Ref):
            return a != twin or a == b
        return type(a) is type(b) and bool(a == b)


def _mark(unrolled: Unrolled, iterations: list[set[int]], *, reverse: bool) -> None:
    """Give each iteration's values the steps that a loop over a sequence would have seen, and a stage of their own."""
    values, T = unrolled.values, unrolled.steps
    unrolled.fed_back = stage = 1 + max(values[number].stage for number in unrolled.reachable())
    at = {n: k for k, iteration in enumerate(iterations) for n in iteration}
    for number, value in enumerate(values):
        later = [values[n].steps for n in value.reads() if values[n].stage == stage]
        if number in at:
            seen = sum(1 << (T - 1 - k if reverse else k) for k in range(at[number] + 1))
            values[number] = replace(value, stage=stage, steps=seen)
        elif later:
            steps = 0
            for one in later:
                steps |= one
            values[number] = replace(value, stage=stage, steps=steps)
