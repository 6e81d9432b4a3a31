"""Recognise a cell that is an ONNX ``LSTM`` or ``GRU`` in disguise, whoever wrote it.

A cell declares no gate order. Its weights are known by their shapes; the rest (order of the gates, activations, which
vector is which peephole, coupling) is searched: every form that the operator can say is computed in float64 and compared
with what the cell does, on random weights in the place of its own, so that the answer is about the cell's equations
and not about the values it happens to hold. Two independent draws must agree to rounding. What is not recognised is no
error: such a cell becomes a ``Scan``.

Rules of this file: it knows the operators' equations and no cell of this house by name.

Source: ONNX operators LSTM-14 (i, o, f, c; P: i, o, f) and GRU-14 (z, r, h).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Final, Literal

import torch
from torch import Tensor, nn

from ..model.cell import ACTIVATIONS, activate, state_spec_of

_GATE_ACTIVATIONS: Final = ("sigmoid", "hard_sigmoid", "tanh", "softsign", "relu")
_RELATIVE_ERROR: Final = 1e-9  # float64 rounding of H + I terms is below it for any H that fits a machine
_PROBE_ROWS: Final = 6


@dataclass(frozen=True, slots=True)
class Slots:
    """Where a cell keeps its linear maps: parameter names and, for a joint matrix over [x, h], which comes first."""

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


def recognise(cell: nn.Module, input_dim: int) -> FusedForm | None:
    """Return how a fused ONNX operator says ``cell``, or None where it cannot.

    Args:
        cell: keeps the cell protocol.
        input_dim: I.
    """
    widths = [width for _, width in state_spec_of(cell)]
    if len(set(widths)) != 1 or any(True for _ in cell.buffers()):
        return None
    H = widths[0]
    search = {1: _search_gru, 2: _search_lstm}.get(len(widths))
    if search is None:
        return None
    first, second = _probe(cell, input_dim, widths, seed=1), _probe(cell, input_dim, widths, seed=2)
    if first is None or second is None:
        return None
    for slots in _candidate_slots(cell, input_dim, H, len(widths)):
        for form in search(slots, first, H):
            if _matches(form, first, H) and _matches(form, second, H):
                return form
    return None


@dataclass(frozen=True, slots=True)
class _Probe:
    """What the cell did, in float64, with random weights: parameters, x [B, I], state, output and new state [B, H]."""

    weights: dict[str, Tensor]
    x: Tensor
    state: tuple[Tensor, ...]
    output: Tensor
    new_state: tuple[Tensor, ...]


def _probe(cell: nn.Module, input_dim: int, widths: list[int], seed: int) -> _Probe | None:
    """Run a float64 copy of the cell with random weights, or return None where it is random itself or fails."""
    generator = torch.Generator().manual_seed(seed)
    copied = copy.deepcopy(cell).double().eval()
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.7)
        # Rows of different magnitude, so that clipping and other branches show.
        scale = torch.logspace(-1, 2, _PROBE_ROWS, dtype=torch.float64).unsqueeze(1)
        x = torch.randn(_PROBE_ROWS, input_dim, generator=generator, dtype=torch.float64) * scale / input_dim**0.5
        state = tuple(
            torch.randn(_PROBE_ROWS, width, generator=generator, dtype=torch.float64) * scale / width**0.5
            for width in widths
        )
        output, new = copied(x, state[0] if len(state) == 1 else state)
    new_state = (new,) if isinstance(new, Tensor) else tuple(new)
    if not torch.equal(output, new_state[0]):
        return None  # the operators give their hidden state as output
    return _Probe(dict(copied.named_parameters()), x, state, output, new_state)


def _candidate_slots(cell: nn.Module, input_dim: int, H: int, states: int) -> Iterator[Slots]:
    """Yield every way in which the parameters can be the operator's, judged by their shapes alone."""
    shapes = {name: tuple(parameter.shape) for name, parameter in cell.named_parameters()}
    matrices = [name for name, shape in shapes.items() if len(shape) == 2]  # noqa: PLR2004
    for blocks in (4, 3) if states == 2 else (3,):  # noqa: PLR2004
        biases = [name for name, shape in shapes.items() if shape == (blocks * H,)]
        vectors = [name for name, shape in shapes.items() if shape == (H,) and name not in biases]
        if len(matrices) + len(biases) + len(vectors) != len(shapes) or len(vectors) not in {0, 3} or len(biases) > 2:  # noqa: PLR2004
            continue
        padded: list[str | None] = [*biases, None, None][:2]
        for first, second in {(padded[0], padded[1]), (padded[1], padded[0])}:
            peepholes = tuple(vectors)
            if len(matrices) == 1 and shapes[matrices[0]] == (blocks * H, input_dim + H):
                for joint in ("xh", "hx"):
                    name = matrices[0]
                    yield Slots(blocks, name, name, first, second, joint, peepholes)  # type: ignore[arg-type]
            for w, r in permutations(matrices, 2) if len(matrices) == 2 else ():  # noqa: PLR2004
                if shapes[w] == (blocks * H, input_dim) and shapes[r] == (blocks * H, H):
                    yield Slots(blocks, w, r, first, second, "", peepholes)


def matrices_of(slots: Slots, weights: dict[str, Tensor], input_dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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


def _search_lstm(slots: Slots, probe: _Probe, H: int) -> Iterator[FusedForm]:
    """Yield the LSTM forms whose cell state fits on the first units; the caller confirms them in full."""
    columns = min(H, 8)
    blocks = range(slots.blocks)
    orders = (
        [(i, o, f, c) for i, o, f, c in permutations(blocks, 4)]
        if slots.blocks == 4
        else [  # noqa: PLR2004
            (i, o, -1, c) for i, o, c in permutations(blocks, 3)
        ]
    )
    signs = [()] if slots.blocks == 4 else [(), (True, False, False, False)]  # noqa: PLR2004
    peephole_orders = list(permutations(slots.peepholes)) if slots.peepholes else [()]
    preactivation = _preactivations(slots, probe, H)
    for order, negated, peephole_order, gate, cell in product(
        orders, signs, peephole_orders, _GATE_ACTIVATIONS, ACTIVATIONS
    ):
        if negated and gate != "sigmoid":
            continue
        form = FusedForm("LSTM", slots, order, (gate, cell, "tanh"), negated, peephole_order)
        new_cell = _lstm_cell_state(form, preactivation, probe, columns)
        if _is_close(new_cell, probe.new_state[1][:, :columns]):
            for output in ACTIVATIONS:
                yield replace(form, activations=(gate, cell, output))


def _search_gru(slots: Slots, probe: _Probe, H: int) -> Iterator[FusedForm]:
    """Yield every GRU form; there are few enough to be compared in full."""
    del probe, H
    if slots.peepholes:
        return
    for order, gate, new, late, negated in product(
        permutations(range(3)), _GATE_ACTIVATIONS, ACTIVATIONS, (True, False), ((), (True, False, False))
    ):
        if not negated or gate == "sigmoid":
            yield FusedForm("GRU", slots, order, (gate, new), negated, linear_before_reset=late)


def _preactivations(slots: Slots, probe: _Probe, H: int) -> list[Tensor]:
    w, r, input_bias, hidden_bias = matrices_of(slots, probe.weights, probe.x.shape[1])
    total = probe.x @ w.T + input_bias + probe.state[0] @ r.T + hidden_bias
    return list(total.split(H, 1))


def _lstm_gate(form: FusedForm, gate: int, preactivation: list[Tensor], cell: Tensor, probe: _Probe) -> Tensor:
    """Return gate 0 (i), 1 (o) or 2 (f) of the operator, given the cell state that its peephole sees."""
    a = preactivation[form.order[gate]][:, : cell.shape[1]]
    if form.peephole_order:
        a = a + probe.weights[form.peephole_order[gate]][: cell.shape[1]] * cell
    return activate(form.activations[0], -a if form.negated and form.negated[gate] else a)


def _lstm_cell_state(form: FusedForm, preactivation: list[Tensor], probe: _Probe, columns: int) -> Tensor:
    cell = probe.state[1][:, :columns]
    i = _lstm_gate(form, 0, preactivation, cell, probe)
    f = 1.0 - i if form.input_forget else _lstm_gate(form, 2, preactivation, cell, probe)
    return f * cell + i * activate(form.activations[1], preactivation[form.order[3]][:, :columns])


def _matches(form: FusedForm, probe: _Probe, H: int) -> bool:
    """Compare the form's whole step with the cell's."""
    if form.kind == "GRU":
        return _is_close(_gru_hidden(form, probe, H), probe.new_state[0])
    preactivation = _preactivations(form.slots, probe, H)
    cell = _lstm_cell_state(form, preactivation, probe, H)
    hidden = _lstm_gate(form, 1, preactivation, cell, probe) * activate(form.activations[2], cell)
    return _is_close(cell, probe.new_state[1]) and _is_close(hidden, probe.new_state[0])


def _gru_hidden(form: FusedForm, probe: _Probe, H: int) -> Tensor:
    w, r, input_bias, hidden_bias = matrices_of(form.slots, probe.weights, probe.x.shape[1])
    h = probe.state[0]
    x_blocks = (probe.x @ w.T + input_bias).split(H, 1)
    h_blocks = (h @ r.T + hidden_bias).split(H, 1)
    z_block, r_block, n_block = form.order
    z = x_blocks[z_block] + h_blocks[z_block]
    update = activate(form.activations[0], -z if form.negated else z)
    reset = activate(form.activations[0], x_blocks[r_block] + h_blocks[r_block])
    rows = slice(n_block * H, (n_block + 1) * H)
    late = reset * h_blocks[n_block]
    recurrent = late if form.linear_before_reset else (reset * h) @ r[rows].T + hidden_bias[rows]
    return (1.0 - update) * activate(form.activations[1], x_blocks[n_block] + recurrent) + update * h


def _is_close(computed: Tensor, expected: Tensor) -> bool:
    if not bool(torch.isfinite(expected).all()):
        return False
    return bool(((computed - expected).abs() <= _RELATIVE_ERROR * (1.0 + expected.abs())).all())
