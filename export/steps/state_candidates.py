"""What the state of a module that takes one step may look like: made by the module itself, or read off its layers.

Rules of this file: of a stranger's code only methods run that make a state; what fits is found out in step_probe.py.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..foreign.call_modes import CpuOnly
from ..foreign.own_attributes import attributes_kept
from .step_form import StateLeaf, filled, flat, template_of

ROWS: Final = (3, 5)
_MAKER: Final = re.compile(r"(?i)_*(?:init|zero|begin|start|empty|default|create|make|get|new|reset)\w*")
_OF_STATE: Final = re.compile(r"(?i)\w*(?:hidden|state|carry|memory|h0|hid|zero)s?\d*")
_MATRIX_RANK: Final = 2
_MOST_WIDTHS: Final = 24
_MOST_ORDERED: Final = 4  # state arguments whose order is tried


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the state may be.

    Attributes:
        template: a tree for each argument (step_form.py).
        leaves: the shape of each tensor.
        guessed: whether only widths of weights speak for it.
    """

    template: tuple[Any, ...]
    leaves: tuple[StateLeaf, ...]
    guessed: bool = False


def state_makers(module: nn.Module) -> list[str]:
    """Return the names of methods that may make a state, such as init_hidden and zero_state."""
    own = {name for kind in type(module).__mro__ if not kind.__module__.startswith("torch.") for name in vars(kind)}
    return [
        name
        for name in dir(type(module))
        if name in own and not hasattr(nn.Module, name) and _MAKER.fullmatch(name) and _OF_STATE.fullmatch(name)
    ]


def state_candidates(module: nn.Module, arguments: int) -> Iterator[Candidate]:
    """Yield what the state may be, the likeliest first.

    Args:
        module: as it came.
        arguments: how many of forward's arguments are states.
    """
    for name in state_makers(module):
        yield from _made_by(module, name, arguments)
    groups = list(_of_layers(module))
    yield from _arranged(groups, arguments)
    declared = getattr(module, "state_spec", None)
    if isinstance(declared, tuple | list):
        yield from _arranged([[StateLeaf((), (int(width),)) for _, width in declared]], arguments)
    for width in _widths(module):
        plain, layered = StateLeaf((), (width,)), StateLeaf((1,), (width,))
        for leaf in (plain, layered):
            if arguments == 1:
                yield Candidate((0,), (leaf,), guessed=True)
                yield Candidate(((0, 1),), (leaf, leaf), guessed=True)
            else:
                yield Candidate(tuple(range(arguments)), (leaf,) * arguments, guessed=True)


def made_state(module: nn.Module, name: str, rows: int) -> list[Any] | None:
    """Return what a method of the module makes for so many rows, as a tree; None where it does not run.

    A counter of whole numbers may be among them; as a state it is float32 like the others, where the module runs so.
    """
    method = getattr(module, name)
    try:
        given = _arguments_of(method, rows)
        with torch.no_grad(), CpuOnly(), attributes_kept(module):
            made = method(**given)
    except Exception:  # noqa: BLE001 - a stranger's code may want anything
        return None
    tensors = list(flat(made))
    return [made] if tensors and all(isinstance(t, Tensor) and t.dtype != torch.bool for t in tensors) else None


def _arguments_of(method: Any, rows: int) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if re.search(r"batch|bsz|^bs$|^b$|^n$|rows|num|size", name.lower()):
            given[name] = rows
        elif "device" in name:
            given[name] = torch.device("cpu")
        elif "dtype" in name:
            given[name] = torch.float32
        elif parameter.default is parameter.empty:
            raise TypeError(name)
    return given


def _made_by(module: nn.Module, name: str, arguments: int) -> Iterator[Candidate]:
    """Yield the state that a method makes: its batch is the axis that changes with the rows, else one that is 1."""
    made = [made_state(module, name, rows) for rows in ROWS]
    if made[0] is None or made[1] is None:
        return
    trees = made[0] if arguments == 1 else list(made[0][0]) if isinstance(made[0][0], tuple | list) else []
    if len(trees) != arguments:
        return
    shapes = [[tuple(tensor.shape) for tensor in flat(one)] for one in made]
    template = tuple(template_of(trees))
    # For [1, 1, H] it is the second one: layers come before the batch.
    for from_end in (2, 3):
        leaves = [_leaf(one, two, from_end) for one, two in zip(*shapes, strict=True)]
        if all(leaf is not None for leaf in leaves):
            yield Candidate(template, tuple(leaf for leaf in leaves if leaf is not None))


def _leaf(one: tuple[int, ...], two: tuple[int, ...], from_end: int) -> StateLeaf | None:
    if len(one) != len(two):
        return None
    axes = [k for k, (a, b) in enumerate(zip(one, two, strict=True)) if (a, b) == ROWS]
    if one == two:
        axes = [len(one) - from_end] if len(one) >= from_end and one[-from_end] == 1 else []
    return StateLeaf(one[: axes[0]], one[axes[0] + 1 :]) if len(axes) == 1 else None


def _of_layers(module: nn.Module) -> Iterator[list[StateLeaf]]:
    """Yield the state tensors of each recurrent layer or cell of torch's, or of this house's kind."""
    for child in module.modules():
        if isinstance(child, nn.RNNBase):
            layers = child.num_layers * (2 if child.bidirectional else 1)
            hidden = StateLeaf((layers,), (child.proj_size or child.hidden_size,))
            cell = StateLeaf((layers,), (child.hidden_size,))
            yield [hidden, cell] if isinstance(child, nn.LSTM) else [hidden]
        elif isinstance(child, nn.RNNCellBase):
            leaf = StateLeaf((), (child.hidden_size,))
            yield [leaf, leaf] if isinstance(child, nn.LSTMCell) else [leaf]
        elif child is not module and isinstance(getattr(child, "state_spec", None), tuple):
            yield [StateLeaf((), (int(width),)) for _, width in child.state_spec]  # type: ignore[union-attr] # a tuple


def _arranged(groups: list[list[StateLeaf]], arguments: int) -> Iterator[Candidate]:
    """Yield the ways in which people hand over the states of several layers."""
    leaves = tuple(leaf for group in groups for leaf in group)
    if not leaves:
        return
    numbers = iter(range(len(leaves)))
    grouped = [tuple(next(numbers) for _ in group) for group in groups]
    trees: list[Any] = [group[0] if len(group) == 1 else group for group in grouped]
    if arguments == len(leaves) == 1 and leaves[0].before:
        yield Candidate((0,), leaves)
        rows_first = StateLeaf((), (*leaves[0].before, *leaves[0].after))  # as policies have it
        yield Candidate((0,), (rows_first,))
    elif arguments == len(leaves):
        orders = permutations(leaves) if len(leaves) <= _MOST_ORDERED else [leaves]
        yield from (Candidate(tuple(range(len(leaves))), order) for order in orders)
    elif arguments == len(groups):
        yield Candidate(tuple(trees), leaves)
    if arguments == 1:
        yield from (Candidate((tree,), leaves) for tree in (tuple(range(len(leaves))), trees, tuple(trees)))
    if len(set(leaves)) == 1 or len({tuple(group) for group in groups}) == 1:
        yield from _stacked(groups, arguments)
    by_kind = list(zip(*grouped, strict=False)) if len({len(group) for group in groups}) == 1 else []
    if len(by_kind) == arguments > 1 or (arguments == 1 and len(by_kind) > 1):  # all hidden states, then all cells
        order = [number for kind in by_kind for number in kind]
        lists = filled(template_of([list(kind) for kind in by_kind]), range(len(order)))
        yield Candidate(tuple(lists) if arguments > 1 else (tuple(lists),), tuple(leaves[k] for k in order))
    if arguments == 1 and len(leaves) > 1 and len(set(leaves)) == 1:
        yield from _in_one_tensor(leaves)


def _stacked(groups: list[list[StateLeaf]], arguments: int) -> Iterator[Candidate]:
    """Yield the states of equal cells as one tensor [cells, B, H], or one for hidden states and one for cells."""
    kinds = tuple(StateLeaf((len(groups), *leaf.before), leaf.after) for leaf in groups[0])
    if len(kinds) == arguments:
        yield Candidate(tuple(range(len(kinds))), kinds)
    elif arguments == 1:
        yield Candidate((tuple(range(len(kinds))),), kinds)


def _in_one_tensor(leaves: tuple[StateLeaf, ...]) -> Iterator[Candidate]:
    """Yield equal states as one tensor: stacked, as [2, B, H] of a cell, or joined along layers or features."""
    (before, after), count = (leaves[0].before, leaves[0].after), len(leaves)
    yield Candidate((0,), (StateLeaf((count, *before), after),))
    if before:
        yield Candidate((0,), (StateLeaf((count * before[0], *before[1:]), after),))
    else:
        yield Candidate((0,), (StateLeaf((), (count, *after)),))
    yield Candidate((0,), (StateLeaf(before, (*after[:-1], count * after[-1])),))


def _widths(module: nn.Module) -> list[int]:
    """Return what the state's width may be: named so, or a side of a matrix or a part of one."""
    named = [
        value
        for name, value in vars(module).items()
        if type(value) is int and value > 0 and re.search(r"hid|state|units|^h$|rnn", name.lower())
    ]
    sides = [side for p in module.parameters() if p.dim() == _MATRIX_RANK for side in reversed(p.shape)]
    parts = [
        p.shape[0] // k
        for p in module.parameters()
        if p.dim() == _MATRIX_RANK
        for k in (4, 3, 2)
        if p.shape[0] % k == 0
    ]
    return list(dict.fromkeys([*named, *sides, *parts]))[:_MOST_WIDTHS]
