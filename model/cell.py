"""The cell protocol: one step of a recurrent network, state in and state out.

Rules of this file: it says what a cell is and nothing of how any cell works; it holds no parameters.

A cell is an ``nn.Module``, scriptable, that keeps no state of its own:

    forward(x: Tensor[B, I], state) -> (output: Tensor[B, H], state)

It declares its state once, as ``state_spec = (("h", H), ("c", H))``: name and width of each state tensor [B, width],
all starting at zero. ``state`` is then a Tensor for one entry, a pair of Tensors for two, a list of Tensors for more.
"""

import operator
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

_PAIR: Final = 2
StateSpec = tuple[tuple[str, int], ...]

# What the fused ONNX operators can say as well (operator LSTM, attribute `activations`).
ACTIVATIONS: Final = ("sigmoid", "tanh", "relu", "hard_sigmoid", "softsign")


class CellError(TypeError):
    """A module does not keep the cell protocol; the message says what is wrong and how to mend it."""


def whole_number(name: str, value: Any) -> int:
    """Return an integer of any kind, one of NumPy's too, as Python's.

    Raises:
        TypeError: it is something else; the message gives ``name`` and the value.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected a whole number") from None


def whole_numbers(name: str, value: Any) -> list[int]:
    """Return one integer, or several in a sequence, as a list; see ``whole_number``."""
    try:
        return [operator.index(value)]
    except TypeError:
        several = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        return [whole_number(name, one) for one in several]


def plain_number(value: Any) -> Any:
    """Return an integer of NumPy's as Python's, which TorchScript and JSON take, and everything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def activate(name: str, x: Tensor) -> Tensor:
    """Apply the activation called ``name`` (one of ACTIVATIONS) to x, any shape; scriptable.

    ``hard_sigmoid`` is torch's: clip(x / 6 + 1 / 2, 0, 1).
    """
    if name == "sigmoid":
        return torch.sigmoid(x)
    if name == "tanh":
        return torch.tanh(x)
    if name == "relu":
        return torch.relu(x)
    if name == "hard_sigmoid":
        return torch.clamp(x / 6.0 + 0.5, 0.0, 1.0)
    return x / (1.0 + x.abs())


def check_activations(*names: str) -> None:
    """Raise ValueError, naming the choices, where one of ``names`` is not in ACTIVATIONS."""
    for name in names:
        if name not in ACTIVATIONS:
            raise ValueError(f"activation {name!r} is not known, expected one of {', '.join(ACTIVATIONS)}")


def check_state(state: list[Tensor], shapes: list[list[int]]) -> None:
    """Raise ValueError where ``state`` is not one tensor of each of ``shapes``; scriptable.

    Without it a state of one row would be broadcast over the batch, and a tensor too many ignored, without a word.
    """
    if len(state) != len(shapes):
        raise ValueError(f"state has {len(state)} tensors, expected {len(shapes)}")
    for k in range(len(shapes)):
        if list(state[k].size()) != shapes[k]:
            raise ValueError(f"state tensor {k} is {list(state[k].size())}, expected {shapes[k]}")


def state_spec_of(cell: nn.Module) -> StateSpec:
    """Return the state that ``cell`` declares, checked.

    Raises:
        CellError: ``state_spec`` is missing or is not a tuple of (name, positive width) with distinct names.
    """
    spec = getattr(cell, "state_spec", None)
    name = type(cell).__name__
    if spec is None:
        raise CellError(
            f"{name} declares no state_spec, expected for example state_spec = (('h', H), ('c', H)); "
            "set it in the cell's constructor"
        )
    entries = spec if isinstance(spec, tuple | list) else ()
    pairs = [tuple(entry) if isinstance(entry, tuple | list) else () for entry in entries]
    valid = all(
        len(p) == _PAIR and isinstance(p[0], str) and isinstance(p[1], int | np.integer) and p[1] > 0 for p in pairs
    )
    if not pairs or not valid or len({p[0] for p in pairs}) != len(pairs):
        raise CellError(
            f"{name}.state_spec is {spec!r}, expected (name, width) pairs with distinct names and positive widths, "
            "such as (('h', H),)"
        )
    return tuple((str(p[0]), int(p[1])) for p in pairs)


def check_returned(cell: nn.Module, result: object, widths: list[int]) -> None:
    """Check what one step of ``cell`` returned against the widths of its state_spec; for eager mode alone.

    TorchScript has the types of what a cell returns, and could not say this.

    Raises:
        CellError: it is no (output, state), or a state of another number of tensors or of other widths.
    """
    if not isinstance(result, tuple | list) or len(result) != _PAIR:
        raise CellError(f"{name_of(cell)}.forward returned {_say(result)}, expected {_form(cell)}; return that")
    state = result[1]
    tensors = [state] if isinstance(state, Tensor) else state
    fits = isinstance(state, Tensor) == (len(widths) == 1) and isinstance(tensors, tuple | list)
    if not fits or len(tensors) != len(widths) or not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise CellError(
            f"{name_of(cell)}.forward returned {_say(state)} as its state, expected {_form(cell)} as its state_spec "
            "says; return that, or declare in state_spec what else it keeps"
        )
    for k in range(len(widths)):
        if tensors[k].dim() != _PAIR or tensors[k].size(1) != widths[k]:
            raise CellError(
                f"{name_of(cell)}.forward returned {state_spec_of(cell)[k][0]} as {list(tensors[k].shape)}, expected "
                f"[B, {widths[k]}] as its state_spec says; return that, or declare the other width"
            )


def name_of(cell: nn.Module) -> str:
    """Return the name under which people know a cell: its ``known_as`` where it stands for another, else its class."""
    return str(getattr(cell, "known_as", type(cell).__name__))


def state_form(cell: nn.Module) -> str:
    """Return how ``cell`` takes and returns its state: ``h``, ``(h, c)`` or ``[h, c, d]``."""
    names = [name for name, _ in state_spec_of(cell)]
    joined = ", ".join(names)
    return joined if len(names) == 1 else f"({joined})" if len(names) == _PAIR else f"[{joined}]"


def _form(cell: nn.Module) -> str:
    return f"(output, {state_form(cell)})"


def _say(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    return f"a {type(value).__name__}"
