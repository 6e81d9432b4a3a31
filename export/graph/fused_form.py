"""How a fused ONNX operator says a cell: which weights are which gate's, and what squashes them.

Rules of this file: facts and their arrangement only; nothing is run or searched here.

Source: ONNX operators LSTM-14 (gates i, o, f, c; P: i, o, f) and GRU-14 (gates z, r, h).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Final, Literal

import torch
from torch import Tensor, nn

_MATRIX_RANK: Final = 2


@dataclass(frozen=True, slots=True)
class Slots:
    """Where a cell keeps its linear maps: parameter names and, for a joint matrix over x and h, which comes first."""

    blocks: int
    input_name: str
    hidden_name: str
    input_bias: str | None
    hidden_bias: str | None
    joint: Literal["", "xh", "hx"] = ""
    peepholes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FusedForm:
    """How a cell is said by a fused operator.

    Attributes:
        kind: the operator.
        slots: where the weights are.
        order: for each gate of the operator (LSTM i, o, f, c; GRU z, r, h) the block that feeds it, or -1 for none.
        activations: names of model.cell.ACTIVATIONS, as the operator orders them (f, g, h or f, g).
        negated: gates whose block enters with the opposite sign, since 1 - sigmoid(a) = sigmoid(-a).
        peephole_order: parameter names for P: i, o, f; empty without peepholes.
        linear_before_reset: GRU only.
    """

    kind: Literal["LSTM", "GRU"]
    slots: Slots
    order: tuple[int, ...]
    activations: tuple[str, ...]
    negated: tuple[bool, ...] = ()
    peephole_order: tuple[str, ...] = ()
    linear_before_reset: bool = False

    @property
    def input_forget(self) -> bool:
        """Whether the gates are coupled, f = 1 - i."""
        return self.kind == "LSTM" and self.order[2] < 0

    @property
    def attributes(self) -> tuple[object, ...]:
        """What two directions must share to be one node."""
        return self.kind, self.activations, self.input_forget, self.linear_before_reset, bool(self.peephole_order)


def candidate_slots(cell: nn.Module, input_dim: int, H: int, states: int) -> Iterator[Slots]:
    """Yield every way in which the parameters can be the operator's, judged by their shapes alone.

    Args:
        cell: keeps the cell protocol.
        input_dim: I.
        H: width of every state.
        states: 2 for an LSTM, 1 for a GRU.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in cell.named_parameters()}
    for blocks in (4, 3) if states == 2 else (3,):  # noqa: PLR2004 - coupled gates leave three
        biases = [name for name, shape in shapes.items() if shape == (blocks * H,)]
        vectors = tuple(name for name, shape in shapes.items() if shape == (H,) and name not in biases)
        matrices = [name for name, shape in shapes.items() if len(shape) == _MATRIX_RANK]
        if len(matrices) + len(biases) + len(vectors) != len(shapes) or len(vectors) not in {0, 3} or len(biases) > 2:  # noqa: PLR2004
            continue
        padded: list[str | None] = [*biases, None, None]
        for w, r, joint in _matrix_pairs({name: shapes[name] for name in matrices}, blocks, input_dim, H):
            for first, second in dict.fromkeys(permutations(padded[:2])):
                yield Slots(blocks, w, r, first, second, joint, vectors)


def _matrix_pairs(
    shapes: Mapping[str, tuple[int, ...]], blocks: int, input_dim: int, H: int
) -> Iterator[tuple[str, str, Literal["", "xh", "hx"]]]:
    names = list(shapes)
    if len(names) == 1 and shapes[names[0]] == (blocks * H, input_dim + H):
        yield names[0], names[0], "xh"
        yield names[0], names[0], "hx"
    if len(names) == 2:  # noqa: PLR2004 - one for the input, one for the hidden state
        for w, r in permutations(names):
            if shapes[w] == (blocks * H, input_dim) and shapes[r] == (blocks * H, H):
                yield w, r, ""


def matrices_of(slots: Slots, weights: Mapping[str, Tensor], input_dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (W [blocks*H, I], R [blocks*H, H], input bias, hidden bias [blocks*H]) in the cell's own gate order."""
    w, r = weights[slots.input_name], weights[slots.hidden_name]
    if slots.joint == "xh":
        w, r = w[:, :input_dim], w[:, input_dim:]
    elif slots.joint == "hx":
        hidden = w.shape[1] - input_dim
        w, r = w[:, hidden:], w[:, :hidden]
    zero = torch.zeros(w.shape[0], dtype=w.dtype)
    input_bias = zero if slots.input_bias is None else weights[slots.input_bias]
    hidden_bias = zero if slots.hidden_bias is None else weights[slots.hidden_bias]
    return w, r, input_bias, hidden_bias


def pack_weights(cell: nn.Module, form: FusedForm, input_dim: int) -> dict[str, Tensor]:
    """Return w [4H, I] (GRU 3H), r [.., H], b [8H] or [6H] and, with peepholes, p [3H], in ONNX gate order."""
    weights = {name: parameter.detach() for name, parameter in cell.named_parameters()}
    blocks = form.slots.blocks

    def reorder(tensor: Tensor) -> Tensor:
        parts = tensor.chunk(blocks, 0)
        gates = [parts[block] if block >= 0 else torch.zeros_like(parts[0]) for block in form.order]
        return torch.cat([-gate if form.negated and form.negated[k] else gate for k, gate in enumerate(gates)])

    w, r, input_bias, hidden_bias = matrices_of(form.slots, weights, input_dim)
    packed = {"w": reorder(w), "r": reorder(r), "b": torch.cat([reorder(input_bias), reorder(hidden_bias)])}
    if form.peephole_order:
        signs = [-1.0 if form.negated and form.negated[k] else 1.0 for k in range(3)]
        packed["p"] = torch.cat([weights[name] * sign for name, sign in zip(form.peephole_order, signs, strict=True)])
    return packed
