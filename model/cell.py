"""The cell protocol: one step of a recurrent network, state in and state out.

Rules of this file: it says what a cell is and nothing of how any cell works; it holds no parameters.

A cell is an ``nn.Module``, scriptable, that keeps no state of its own:

    forward(x: Tensor[B, I], state) -> (output: Tensor[B, H], state)

It declares its state once, as ``state_spec = (("h", H), ("c", H))``: name and width of each state tensor [B, width],
all starting at zero. ``state`` is then a Tensor for one entry, a pair of Tensors for two, a list of Tensors for more.
"""

from typing import Final

import torch
from torch import Tensor, nn

StateSpec = tuple[tuple[str, int], ...]

# What the fused ONNX operators can say as well (operator LSTM, attribute `activations`).
ACTIVATIONS: Final = ("sigmoid", "tanh", "relu", "hard_sigmoid", "softsign")


class CellError(TypeError):
    """A module does not keep the cell protocol; the message says what is missing and how to declare it."""


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
    valid = all(len(p) == 2 and isinstance(p[0], str) and isinstance(p[1], int) and p[1] > 0 for p in pairs)  # noqa: PLR2004
    if not pairs or not valid or len({p[0] for p in pairs}) != len(pairs):
        raise CellError(
            f"{name}.state_spec is {spec!r}, expected (name, width) pairs with distinct names and positive widths, "
            "such as (('h', H),)"
        )
    return tuple((str(p[0]), int(p[1])) for p in pairs)
