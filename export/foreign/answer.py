"""What a foreign module's ``forward`` returns: the tensor that a bundle answers with, and what it leaves out.

Tensors in a result have names: the key of a dict, the field of a dataclass or named tuple, the place in a tuple or list
from 0 on; one that lies deeper has the names on the way joined by dots, as ``hidden.0``.

Rules of this file: the first tensor is the answer unless another is told, or several, which then stand side by side;
which of the others are states is told by their values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import AnswerError, SignatureError

if TYPE_CHECKING:
    from .network import ForeignNetwork

Named = tuple[tuple[str, Tensor], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Which tensor of a result is the answer, or which of them are, side by side.

    Attributes:
        told: its name, or the same with places in the stead of keys and fields; several joined by commas; None for the
            first tensor.
    """

    told: str | None = None

    @property
    def is_several(self) -> bool:
        """Whether several are told."""
        return "," in (self.told or "")

    def of(self, result: Any, name: str) -> Named:
        """Return the answer out of what the forward of the module called ``name`` returned, and behind it the rest.

        Raises:
            AnswerError: the result neither is a tensor nor begins with one, it holds none that is called as told, or
                those told do not stand side by side.
        """
        found = tuple(named_tensors(result))
        if self.told is None:
            first = _first_tensor(result, name)
            return tuple(sorted(found, key=lambda one: one[1] is not first))
        parts = self._parts(result)
        missing = next((one for one, part in parts.items() if part is None), None)
        if missing is None:
            rest = (one for one in found if not any(one[1] is part for part in parts.values()))
            return (self.told, _side_by_side(parts, name)), *rest
        there = f"tensors in a tuple, dict or dataclass, not {_kind(result)}"
        if found:
            there = f"one of {', '.join(one for one, _ in found)}"
        if isinstance(result, Tensor):
            there = "no --answer, for it returns one tensor; leave it out"
        raise AnswerError(f"{name}.forward returns nothing called {missing!r} (--answer), expected {there}")

    def columns(self, result: Any) -> dict[str, int]:
        """Return how many numbers of the answer come from which tensor, in order; empty where one is the answer."""
        parts = {} if self.told is None else self._parts(result)
        axes = max((part.dim() for part in parts.values()), default=0)
        widths = {one: part.size(-1) if part.dim() == axes else 1 for one, part in parts.items()}
        return widths if len(widths) > 1 else {}

    def _parts(self, result: Any) -> dict[str, Any]:
        """Return the tensors told by name; None for what is not there."""
        every = dict(named_tensors(result, by_place=True)) | dict(named_tensors(result))
        told = str(self.told)
        return {one: every.get(one) for one in ([told] if told in every else told.split(","))}


def _side_by_side(parts: Mapping[str, Tensor], name: str) -> Tensor:
    """Join [.., O] and [.., O'] to [.., O + O']; what has an axis less is one number beside the others."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    axes = max(part.dim() for part in parts.values())
    with suppress(RuntimeError):  # of shapes that do not fit
        if all(part.is_floating_point() for part in parts.values()):
            return torch.cat([part.unsqueeze(-1) if part.dim() == axes - 1 else part for part in parts.values()], -1)
    of_sequence = [one for one, part in parts.items() if one.isidentifier() and part.dim() == 2 < axes]  # noqa: PLR2004 - [B, O]
    remedy = ""
    for one in of_sequence[:1]:
        remedy = f", or let forward return {one} at every step, {one}.unsqueeze(1).expand(-1, x.size(1), -1)"
    shapes = ", ".join(f"{one} {_dtype(part)} {list(part.shape)}" for one, part in parts.items())
    raise AnswerError(
        f"{name}.forward returns {shapes}, expected floating numbers that stand side by side: all for each step or all "
        f"for each sequence; give one name to --answer{remedy}"
    )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first_tensor(result: Any, name: str) -> Tensor:
    """Return the tensor, or the first in a tuple, list, dict or dataclass or in the first of its parts; not None."""
    first = result
    while parts := _parts_of(first):
        first = next((part for _, part in parts if part is not None), None)
    if isinstance(first, Tensor):
        return first
    found = _kind(result) if first is result else f"a {_kind(result)} of {_kind(first)}"
    others = [other for other, _ in named_tensors(result)]
    remedy = "give a factory that returns a module around it whose forward hands on that tensor alone"
    raise AnswerError(
        f"{name}.forward returns {found}, expected a tensor, or a tuple, dict or dataclass whose first is one; "
        + (f"say which with --answer {' or '.join(others)}" if others else remedy)
    )


def _kind(value: Any) -> str:
    return type(value).__name__


def _parts_of(result: Any, *, by_place: bool = False) -> list[tuple[str, Any]]:
    """Return the parts of a result with their names, in order; none of a tensor."""
    names: Any
    if isinstance(result, Mapping):
        names, parts = result.keys(), list(result.values())
    elif isinstance(result, tuple | list):
        parts = list(result)
        names = getattr(result, "_fields", range(len(parts)))
    elif is_dataclass(result):
        names = [field.name for field in fields(result)]
        parts = [getattr(result, name, None) for name in names]
    else:
        return []
    return list(zip(map(str, range(len(parts)) if by_place else names), parts, strict=True))


def named_tensors(result: Any, *, by_place: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a result in order with its name, however deep; a tensor alone is called ""."""
    if isinstance(result, Tensor):
        yield "", result
    for name, part in _parts_of(result, by_place=by_place):
        for inner, tensor in named_tensors(part, by_place=by_place):
            yield f"{name}.{inner}" if inner else name, tensor


def tensors_of(result: Any) -> list[Tensor]:
    """Return every tensor of a result in order, however deep."""
    return [tensor for _, tensor in named_tensors(result)]


def tree_of(result: Any) -> Any:
    """Return a result with tuples in the place of dicts and dataclasses, and without what holds no tensor."""
    if isinstance(result, Tensor):
        return result
    kept = [tree_of(part) for _, part in _parts_of(result) if any(True for _ in named_tensors(part))]
    return kept if isinstance(result, list) else tuple(kept)


def say_others(returned: Named) -> str:
    """Return the end of a sentence on an answer that cannot be taken: how to take another, where there is one."""
    others = " or ".join(other for other, _ in returned[1:])
    return f"; or take another of its tensors with --answer {others}" if others else ""


def refuse_other_numbers(name: str, answer: Tensor, returned: Named) -> None:
    """Refuse an answer that is not float32.

    Args:
        name: of the module.
        answer: as it is taken.
        returned: the named tensors of the result.

    Raises:
        SignatureError: it is of another dtype.
    """
    if answer.dtype != torch.float32:
        remedy = "end its forward with .float()" if answer.is_floating_point() else "return scores, not argmax"
        raise SignatureError(
            f"{name}.forward returns {_dtype(answer)}, expected float32; {remedy}{say_others(returned)}"
        )


def refuse_widths_of_steps(name: str, columns: Sequence[Mapping[str, int]]) -> None:
    """Refuse several tensors side by side of which one has another width for each number of steps.

    Args:
        name: of the module.
        columns: of the answer for each number of steps.

    Raises:
        AnswerError: a width differs.
    """
    grown = [one for one in columns[0] if len({widths[one] for widths in columns}) > 1]
    if grown:
        raise AnswerError(
            f"{name}.forward returns {' and '.join(grown)} (--answer) with more numbers on the last axis for more "
            "steps, expected as many for every length, so that several stand side by side; take .squeeze(-1) out "
            "where it is a number for each step, or give one name to --answer"
        )


def refuse_list_of_steps(name: str, returned: Sequence[Named], steps: Sequence[int]) -> None:
    """Refuse a list with a tensor for each step, the first of which would be the answer for one step alone.

    Args:
        name: of the module.
        returned: the named tensors of a result for each number of steps.
        steps: those numbers, more than one.

    Raises:
        AnswerError: every result is such a list.
    """
    if all(_has_a_tensor_for_each(named, T) for named, T in zip(returned, steps, strict=True)):
        raise AnswerError(
            f"{name}.forward returns a list with a tensor for each step, expected one tensor of all steps; end it "
            "with torch.stack(outputs, 1), where outputs is that list"
        )


def _has_a_tensor_for_each(named: Named, steps: int) -> bool:
    """Whether the answer is the first of as many tensors as there are steps, in one list."""
    place = named[0][0].rpartition(".")[0]
    beside = [one.removeprefix(f"{place}.") for one, _ in named if one.rpartition(".")[0] == place]
    return sorted(beside) == sorted(map(str, range(steps))) and steps > 1


@torch.no_grad()
def names_left_out(network: ForeignNetwork, module: nn.Module, x: Tensor) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names of what the module as it came returns beside its answer and the states that are carried.

    And which of them are whole numbers, as what is left of lengths is, and could be no answer.
    """
    network.call(x)
    carried = [tensor for tensors in network.carry.final.values() for tensor in tensors] * network.carries_state
    network.call_as_it_came(module, x)
    (_, answer), *further = network.returned
    network.returned = ()
    left = [(n, t) for n, t in further if t is not answer and not any(_same(t, state) for state in carried)]
    return tuple(name for name, _ in left), frozenset(name for name, t in left if not t.is_floating_point())


def _same(one: Tensor, two: Tensor) -> bool:
    """Whether the numbers are the same, but for rounding, however laid out in axes of one."""
    if one.numel() != two.numel() or not one.is_floating_point():
        return False
    return torch.allclose(one.flatten(), two.flatten(), rtol=1e-4, atol=1e-5)
