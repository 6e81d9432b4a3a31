"""Each cell's one step, against torch's own cells and against equations written out on numbers."""

import math

import pytest
import torch
from torch import Tensor, nn

from cellgate.model import (
    CoupledLSTMCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    PeepholeLSTMCell,
    ProjectedLSTMCell,
)

B, I, H, P = 3, 4, 5, 2


def _rows(tensor: Tensor, width: int, order: tuple[int, ...]) -> Tensor:
    """Return the gate blocks of ``tensor`` in another order, cut by hand."""
    return torch.cat([tensor[k * width : (k + 1) * width] for k in order])


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _weighted(layer: nn.Linear, row: int, values: list[float]) -> float:
    """Return one row of a linear layer, added up by hand."""
    bias = 0.0 if layer.bias is None else float(layer.bias[row])
    return bias + sum(float(w) * v for w, v in zip(layer.weight[row], values, strict=True))


def _preactivation(cell: nn.Module, row: int, x: list[float], h: list[float]) -> float:
    return _weighted(cell.input_layer, row, x) + _weighted(cell.hidden_layer, row, h)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def step() -> tuple[Tensor, Tensor, Tensor]:
    """Return x [B, I], h [B, H] and c [B, H] in float64."""
    return tuple(torch.randn(B, width, dtype=torch.float64) for width in (I, H, H))


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_cell_is_torchs_with_the_last_two_gates_exchanged(bias, step):
    theirs = nn.LSTMCell(I, H, bias=bias).double()
    ours = LSTMCell(I, H, bias=bias).double()
    names = {"weight_ih": ours.input_layer.weight, "weight_hh": ours.hidden_layer.weight}
    if bias:
        names |= {"bias_ih": ours.input_layer.bias, "bias_hh": ours.hidden_layer.bias}
    for name, weight in names.items():
        weight.copy_(_rows(getattr(theirs, name), H, (0, 1, 3, 2)))
    x, h, c = step

    output, (new_h, new_c) = ours(x, (h, c))

    expected_h, expected_c = theirs(x, (h, c))
    torch.testing.assert_close(new_h, expected_h, rtol=0, atol=1e-15)
    torch.testing.assert_close(new_c, expected_c, rtol=0, atol=1e-15)
    assert output is new_h


@pytest.mark.parametrize("bias", [True, False])
def test_gru_cell_is_torchs_in_torchs_order(bias, step):
    theirs = nn.GRUCell(I, H, bias=bias).double()
    ours = GRUCell(I, H, bias=bias).double()
    ours.input_layer.weight.copy_(theirs.weight_ih)
    ours.hidden_layer.weight.copy_(theirs.weight_hh)
    if bias:
        ours.input_layer.bias.copy_(theirs.bias_ih)
        ours.hidden_layer.bias.copy_(theirs.bias_hh)
    x, h, _ = step

    output, state = ours(x, h)

    torch.testing.assert_close(state, theirs(x, h), rtol=0, atol=1e-15)
    assert output is state


def test_lstm_cell_uses_the_activation_named_for_each_place(step):
    cell = LSTMCell(I, H, gate_activation="hard_sigmoid", cell_activation="softsign", output_activation="relu").double()
    x, h, c = step

    _, (new_h, new_c) = cell(x, (h, c))

    for b in range(B):
        for k in range(H):
            i, f, o, g = (_preactivation(cell, gate * H + k, x[b].tolist(), h[b].tolist()) for gate in range(4))
            squash = [min(max(a / 6 + 0.5, 0.0), 1.0) for a in (i, f, o)]
            expected_c = squash[1] * float(c[b, k]) + squash[0] * g / (1 + abs(g))
            assert float(new_c[b, k]) == pytest.approx(expected_c, abs=1e-14)
            assert float(new_h[b, k]) == pytest.approx(squash[2] * max(expected_c, 0.0), abs=1e-14)


def test_unknown_activation_of_a_cell_is_refused():
    with pytest.raises(ValueError, match="activation 'gelu' is not known"):
        LSTMCell(I, H, output_activation="gelu")


def test_peephole_gates_see_the_cell_and_the_output_gate_sees_the_new_one(step):
    cell = PeepholeLSTMCell(I, H).double()
    x, h, c = step

    _, (new_h, new_c) = cell(x, (h, c))

    for b in range(B):
        for k in range(H):
            i, f, o, g = (_preactivation(cell, gate * H + k, x[b].tolist(), h[b].tolist()) for gate in range(4))
            old = float(c[b, k])
            expected_c = _logistic(f + float(cell.forget_peephole[k]) * old) * old
            expected_c += _logistic(i + float(cell.input_peephole[k]) * old) * math.tanh(g)
            expected_h = _logistic(o + float(cell.output_peephole[k]) * expected_c) * math.tanh(expected_c)
            assert float(new_c[b, k]) == pytest.approx(expected_c, abs=1e-14)
            assert float(new_h[b, k]) == pytest.approx(expected_h, abs=1e-14)


def test_coupled_cell_forgets_what_it_lets_in(step):
    cell = CoupledLSTMCell(I, H).double()
    x, h, c = step

    _, (new_h, new_c) = cell(x, (h, c))

    for b in range(B):
        for k in range(H):
            i, o, g = (_preactivation(cell, gate * H + k, x[b].tolist(), h[b].tolist()) for gate in range(3))
            expected_c = (1 - _logistic(i)) * float(c[b, k]) + _logistic(i) * math.tanh(g)
            assert float(new_c[b, k]) == pytest.approx(expected_c, abs=1e-14)
            assert float(new_h[b, k]) == pytest.approx(_logistic(o) * math.tanh(expected_c), abs=1e-14)


def _normed(norm: nn.LayerNorm, values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    scaled = [(v - mean) / math.sqrt(variance + norm.eps) for v in values]
    return [s * float(w) + float(b) for s, w, b in zip(scaled, norm.weight, norm.bias, strict=True)]


def test_layer_norm_cell_normalises_both_contributions_and_the_cell_on_its_way_out(step):
    cell = LayerNormLSTMCell(I, H, epsilon=0.01).double()
    for weight in cell.parameters():
        weight.normal_()
    x, h, c = step

    _, (new_h, new_c) = cell(x, (h, c))

    for b in range(B):
        from_x = _normed(cell.input_norm, [_weighted(cell.input_layer, row, x[b].tolist()) for row in range(4 * H)])
        from_h = _normed(cell.hidden_norm, [_weighted(cell.hidden_layer, row, h[b].tolist()) for row in range(4 * H)])
        a = [p + q for p, q in zip(from_x, from_h, strict=True)]
        expected_c = [
            _logistic(a[H + k]) * float(c[b, k]) + _logistic(a[k]) * math.tanh(a[3 * H + k]) for k in range(H)
        ]
        out = _normed(cell.cell_norm, expected_c)
        expected_h = [_logistic(a[2 * H + k]) * math.tanh(out[k]) for k in range(H)]
        assert new_c[b].tolist() == pytest.approx(expected_c, abs=1e-12)
        assert new_h[b].tolist() == pytest.approx(expected_h, abs=1e-12)


def test_projected_cell_projects_what_leaves_and_is_fed_back(step):
    cell = ProjectedLSTMCell(I, H, projection_dim=P).double()
    x, _, c = step
    h = torch.randn(B, P, dtype=torch.float64)

    _, (new_h, new_c) = cell(x, (h, c))

    for b in range(B):
        a = [_preactivation(cell, row, x[b].tolist(), h[b].tolist()) for row in range(4 * H)]
        expected_c = [
            _logistic(a[H + k]) * float(c[b, k]) + _logistic(a[k]) * math.tanh(a[3 * H + k]) for k in range(H)
        ]
        wide = [_logistic(a[2 * H + k]) * math.tanh(expected_c[k]) for k in range(H)]
        assert new_c[b].tolist() == pytest.approx(expected_c, abs=1e-14)
        assert new_h[b].tolist() == pytest.approx([_weighted(cell.projection, p, wide) for p in range(P)], abs=1e-14)


@pytest.mark.parametrize("projection_dim", [0, 5, 6])
def test_projection_must_be_narrower_than_the_cell(projection_dim):
    with pytest.raises(ValueError, match=rf"projection_dim is {projection_dim}, expected 1 \.\. 4"):
        ProjectedLSTMCell(I, H, projection_dim=projection_dim)


def test_only_the_gate_layers_lose_their_bias():
    without = ProjectedLSTMCell(I, H, projection_dim=P, bias=False)

    assert sorted(name for name, _ in without.named_parameters()) == [
        "hidden_layer.weight",
        "input_layer.weight",
        "projection.weight",
    ]
