"""Recognise a cell that is an ONNX ``LSTM`` or ``GRU`` in disguise, whoever wrote it.

A cell declares no gate order. Its weights are known by their shapes; the rest (order of the gates, activations, which
vector is which peephole, coupling) is searched: every form that the operator can say is computed in float64 and held
against what the cell does, on random weights in the place of its own, so that the answer is about the cell's equations
and not about the values it happens to hold. Two independent draws must agree to rounding. What is not recognised is no
error: such a cell becomes a ``Scan``.

Rules of this file: it knows the operators' equations and no cell of this house by name.

Source: ONNX operators LSTM-14 (i, o, f, c; P: i, o, f) and GRU-14 (z, r, h).
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from typing import Final

import torch
from torch import Tensor, nn

from ...model.cell import ACTIVATIONS, activate, state_spec_of
from .cell_probe import Probe, probe_cell
from .fused_form import FusedForm, Slots, candidate_slots, matrices_of

_GATE_ACTIVATIONS: Final = ("sigmoid", "hard_sigmoid", "tanh", "softsign", "relu")
_RELATIVE_ERROR: Final = 1e-9  # float64 rounding of H + I terms is below it for any H that fits a machine
_PROBED_UNITS: Final = 8  # enough to tell a wrong form; a right one is then confirmed on all units
_ALL_GATES: Final = 4
_UNSIGNED: Final = ()
_FIRST_NEGATED: Final = (True, False, False, False)


def recognise(cell: nn.Module, input_dim: int) -> FusedForm | None:
    """Return how a fused ONNX operator says ``cell``, or None where it cannot.

    Args:
        cell: keeps the cell protocol.
        input_dim: I.
    """
    widths = [width for _, width in state_spec_of(cell)]
    search = {1: _search_gru, 2: _search_lstm}.get(len(widths))
    if search is None or len(set(widths)) != 1 or any(True for _ in cell.buffers()):
        return None
    H = widths[0]
    # By shapes first: most cells that are no fused operator show it there, and cost no run.
    candidates = list(candidate_slots(cell, input_dim, H, len(widths)))
    probes = [probe_cell(cell, input_dim, widths, seed) for seed in (1, 2)] if candidates else []
    evidence = [probe for probe in probes if probe is not None]
    if len(evidence) != 2:  # noqa: PLR2004
        return None
    return next(
        (
            form
            for slots in candidates
            for form in search(slots, evidence[0], H)
            if all(_matches(form, probe, H) for probe in evidence)
        ),
        None,
    )


def _search_lstm(slots: Slots, probe: Probe, H: int) -> Iterator[FusedForm]:
    """Yield the LSTM forms whose cell state fits on the first units; the caller confirms them in full."""
    columns = min(H, _PROBED_UNITS)
    preactivation = _preactivations(slots, probe, H)
    for order, negated, peephole_order, gate, squash in product(
        _lstm_orders(slots.blocks),
        (_UNSIGNED,) if slots.blocks == _ALL_GATES else (_UNSIGNED, _FIRST_NEGATED),
        permutations(slots.peepholes),
        _GATE_ACTIVATIONS,
        ACTIVATIONS,
    ):
        if negated and gate != "sigmoid":
            continue
        form = FusedForm("LSTM", slots, order, (gate, squash, "tanh"), negated, peephole_order)
        if _is_close(_lstm_cell_state(form, preactivation, probe, columns), probe.new_state[1][:, :columns]):
            for output in ACTIVATIONS:
                yield replace(form, activations=(gate, squash, output))


def _lstm_orders(blocks: int) -> list[tuple[int, ...]]:
    """Return every (i, o, f, c); three blocks leave the forget gate out."""
    if blocks == _ALL_GATES:
        return list(permutations(range(blocks)))
    return [(i, o, -1, c) for i, o, c in permutations(range(blocks))]


def _search_gru(slots: Slots, probe: Probe, H: int) -> Iterator[FusedForm]:
    """Yield every GRU form; there are few enough to be compared in full."""
    del probe, H
    if slots.peepholes:
        return
    for order, gate, squash, late, negated in product(
        permutations(range(3)), _GATE_ACTIVATIONS, ACTIVATIONS, (True, False), (_UNSIGNED, _FIRST_NEGATED[:3])
    ):
        if not negated or gate == "sigmoid":
            yield FusedForm("GRU", slots, order, (gate, squash), negated, linear_before_reset=late)


def _preactivations(slots: Slots, probe: Probe, H: int) -> list[Tensor]:
    w, r, input_bias, hidden_bias = matrices_of(slots, probe.weights, probe.x.shape[1])
    total = probe.x @ w.T + input_bias + probe.state[0] @ r.T + hidden_bias
    return list(torch.split(total, H, 1))


def _lstm_gate(form: FusedForm, gate: int, preactivation: list[Tensor], cell: Tensor, probe: Probe) -> Tensor:
    """Return gate 0 (i), 1 (o) or 2 (f) of the operator, given the cell state that its peephole sees."""
    a = preactivation[form.order[gate]][:, : cell.shape[1]]
    if form.peephole_order:
        a = a + probe.weights[form.peephole_order[gate]][: cell.shape[1]] * cell
    return activate(form.activations[0], -a if form.negated and form.negated[gate] else a)


def _lstm_cell_state(form: FusedForm, preactivation: list[Tensor], probe: Probe, columns: int) -> Tensor:
    cell = probe.state[1][:, :columns]
    i = _lstm_gate(form, 0, preactivation, cell, probe)
    f = 1.0 - i if form.input_forget else _lstm_gate(form, 2, preactivation, cell, probe)
    return f * cell + i * activate(form.activations[1], preactivation[form.order[3]][:, :columns])


def _matches(form: FusedForm, probe: Probe, H: int) -> bool:
    """Compare the form's whole step with the cell's."""
    if form.kind == "GRU":
        return _is_close(_gru_hidden(form, probe, H), probe.new_state[0])
    preactivation = _preactivations(form.slots, probe, H)
    cell = _lstm_cell_state(form, preactivation, probe, H)
    hidden = _lstm_gate(form, 1, preactivation, cell, probe) * activate(form.activations[2], cell)
    return _is_close(cell, probe.new_state[1]) and _is_close(hidden, probe.new_state[0])


def _gru_hidden(form: FusedForm, probe: Probe, H: int) -> Tensor:
    w, r, input_bias, hidden_bias = matrices_of(form.slots, probe.weights, probe.x.shape[1])
    h = probe.state[0]
    x_blocks = torch.split(probe.x @ w.T + input_bias, H, 1)
    h_blocks = torch.split(h @ r.T + hidden_bias, H, 1)
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
    # A sum of terms of different sign is as exact as its terms, which are no larger than the largest of the row.
    scale = 1.0 + expected.abs().amax(1, keepdim=True)
    return computed.shape == expected.shape and bool(((computed - expected).abs() <= _RELATIVE_ERROR * scale).all())
