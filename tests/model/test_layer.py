"""The layer: the loop over time, its state and lengths, gates on demand, and cells of one's own."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.model import CellError, GRUCell, LSTMCell, LSTMLayer


class _Decay(nn.Module):
    """One state tensor, wider output than state."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(input_dim, hidden_dim)
        self.state_spec = (("trace", hidden_dim),)
        self.output_dim = 2 * hidden_dim

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        trace = 0.5 * state + self.mix(x)
        return torch.cat([trace, -trace], 1), trace


class _Pair(nn.Module):
    """Two state tensors of unequal width."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(input_dim + 1, hidden_dim)
        self.state_spec = (("h", hidden_dim), ("clock", 1))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, clock = state
        h = torch.tanh(self.mix(torch.cat([x, clock], 1)) + h)
        return h, (h, clock + 1.0)


class _Triple(nn.Module):
    """Three state tensors, as a list."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(input_dim, hidden_dim)
        self.state_spec = (("h", hidden_dim), ("fast", hidden_dim), ("slow", hidden_dim))

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        fast = 0.5 * state[1] + self.mix(x)
        slow = 0.9 * state[2] + 0.1 * fast
        h = torch.tanh(fast + slow + state[0])
        return h, [h, fast, slow]


class _Returns(nn.Module):
    """Declares some states and returns what a test says."""

    def __init__(self, count: int, returns: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.state_spec = tuple((name, 4) for name in "hcs"[:count])
        self.returns = returns

    def forward(self, x: Tensor, state: object) -> object:
        return self.returns(x)


_OWN_CELLS = [_Decay, _Pair, _Triple]


def _tensors(state: object) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def _loop_by_hand(cell: nn.Module, row: Tensor, state: object) -> tuple[Tensor, object]:
    """Run one row [1, T, I] step by step, without the layer."""
    outputs = []
    for t in range(row.size(1)):
        output, state = cell(row[:, t], state)
        outputs.append(output)
    return torch.stack(outputs, 1), state


def test_tutorials_layer_scripts_and_starts_from_zeros_when_no_state_is_given():
    layer = LSTMLayer(LSTMCell, 100, 100)
    scripted = torch.jit.script(layer)
    x, zeros = torch.randn(2, 5, 100), torch.zeros(2, 100)

    left_out, (h, c) = scripted(x)
    given, (given_h, given_c) = layer(x, (zeros, zeros))

    assert torch.equal(left_out, given)
    assert torch.equal(h, given_h)
    assert torch.equal(c, given_c)


def test_layer_loops_its_cell_over_the_steps():
    layer = LSTMLayer(LSTMCell, 3, 4)
    x, h, c = torch.randn(1, 6, 3), torch.randn(1, 4), torch.randn(1, 4)

    output, (last_h, last_c) = layer(x, (h, c))

    expected, (expected_h, expected_c) = _loop_by_hand(layer.cell, x, (h, c))
    assert torch.equal(output, expected)
    assert torch.equal(last_h, expected_h)
    assert torch.equal(last_c, expected_c)


@pytest.mark.parametrize("reverse", [False, True])
def test_each_ragged_row_is_what_it_is_alone(reverse):
    layer = LSTMLayer(LSTMCell, 3, 4, reverse=reverse).double()
    lengths = torch.tensor([5, 1, 3, 7])
    x, h, c = (torch.randn(*shape, dtype=torch.float64) for shape in ((4, 7, 3), (4, 4), (4, 4)))

    output, (last_h, last_c) = layer(x, (h, c), lengths)

    for b, n in enumerate(lengths.tolist()):
        row = x[b : b + 1, :n]
        alone, (alone_h, alone_c) = _loop_by_hand(
            layer.cell, row.flip(1) if reverse else row, (h[b : b + 1], c[b : b + 1])
        )
        torch.testing.assert_close(output[b, :n], (alone.flip(1) if reverse else alone)[0], rtol=0, atol=1e-14)
        torch.testing.assert_close(last_h[b], alone_h[0], rtol=0, atol=1e-14)
        torch.testing.assert_close(last_c[b], alone_c[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_touches_neither_state_nor_output_not_even_as_nan(reverse):
    layer = LSTMLayer(LSTMCell, 3, 4, reverse=reverse)
    lengths = torch.tensor([2, 6, 4])
    x = torch.randn(3, 6, 3)
    poisoned = x.clone()
    for b, n in enumerate(lengths.tolist()):
        poisoned[b, n:] = float("nan")

    output, state = layer(poisoned, None, lengths)

    expected, expected_state = layer(x, None, lengths)
    assert torch.equal(output, expected)
    assert all(torch.equal(a, b) for a, b in zip(state, expected_state, strict=True))
    assert all(not output[b, n:].any() for b, n in enumerate(lengths.tolist()))


def test_row_of_length_zero_keeps_its_state_bit_for_bit():
    layer = LSTMLayer(GRUCell, 3, 4)
    state = torch.randn(2, 4)

    output, last = layer(torch.randn(2, 5, 3), state, torch.tensor([0, 5]))

    assert torch.equal(last[0], state[0])
    assert not output[0].any()


@pytest.mark.parametrize("split", range(1, 24))
def test_two_chunks_with_carried_state_are_the_whole(split):
    layer = LSTMLayer(LSTMCell, 3, 4)
    x = torch.randn(2, 24, 3)

    first, state = layer(x[:, :split])
    second, last = layer(x[:, split:], state)

    whole, whole_last = layer(x)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert all(torch.equal(a, b) for a, b in zip(last, whole_last, strict=True))


@pytest.mark.parametrize("cell", _OWN_CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_cell_of_ones_own_runs_scripted_as_it_does_eagerly(cell, reverse):
    layer = LSTMLayer(cell, 3, 4, reverse=reverse)
    scripted = torch.jit.script(layer)

    for B, T in [(2, 5), (1, 1), (3, 9), (2, 5)]:
        x, lengths = torch.randn(B, T, 3), torch.arange(B) % T + 1
        expected, state = layer(x, None, lengths)
        actual, scripted_state = scripted(x, None, lengths)
        again, _ = scripted(x, state, lengths)

        assert torch.equal(actual, expected)
        assert torch.equal(again, layer(x, state, lengths)[0])
        assert all(torch.equal(a, b) for a, b in zip(_tensors(scripted_state), _tensors(state), strict=True))


@pytest.mark.parametrize(("cell", "form"), [(_Decay, Tensor), (_Pair, tuple), (_Triple, list)])
def test_state_is_a_tensor_a_pair_or_a_list_as_the_cell_declares(cell, form):
    layer = LSTMLayer(cell, 3, 4)

    _, state = layer(torch.randn(2, 5, 3))

    assert isinstance(state, form)
    assert isinstance(layer, LSTMLayer)


@pytest.mark.parametrize("cell", _OWN_CELLS)
def test_copied_layer_computes_the_same(cell):
    layer = LSTMLayer(cell, 3, 4)
    x = torch.randn(2, 5, 3)

    assert torch.equal(copy.deepcopy(layer)(x)[0], layer(x)[0])


def test_subclass_keeps_its_own_forward():
    class Doubling(LSTMLayer):
        def forward(self, input, state=None, lengths=None):  # noqa: A002 - as in the layer
            output, last = self.advance(input, self.zero_state(input), lengths)
            return 2 * output, last

    layer = Doubling(GRUCell, 3, 4)

    assert type(layer) is Doubling


def test_cell_that_declares_no_state_is_refused():
    with pytest.raises(CellError, match="Linear declares no state_spec"):
        LSTMLayer(nn.Linear, 3, 4)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="input has 0 steps, expected"):
        LSTMLayer(LSTMCell, 3, 4)(torch.zeros(2, 0, 3))


def test_state_of_one_row_is_not_broadcast():
    with pytest.raises(ValueError, match=r"state tensor 0 is \[1, 4\], expected \[2, 4\]"):
        LSTMLayer(GRUCell, 3, 4)(torch.zeros(2, 5, 3), torch.zeros(1, 4))


def test_lengths_for_other_rows_are_refused():
    with pytest.raises(ValueError, match=r"lengths is \[1\], expected \[2\]"):
        LSTMLayer(LSTMCell, 3, 4)(torch.zeros(2, 5, 3), None, torch.tensor([5]))


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_gates_recorded_are_those_of_the_equations(reverse):
    layer = LSTMLayer(LSTMCell, 3, 4, reverse=reverse).double()
    x, lengths = torch.randn(2, 6, 3, dtype=torch.float64), torch.tensor([6, 4])

    gates = layer.gate_activations(x, None, lengths)

    assert list(gates) == ["input", "forget", "output", "cell_gate", "cell"]
    output, _ = layer(x, None, lengths)
    zeros = torch.zeros(2, 1, 4, dtype=torch.float64)
    before = torch.cat([output[:, 1:], zeros] if reverse else [zeros, output[:, :-1]], 1)
    cell_before = torch.cat([gates["cell"][:, 1:], zeros] if reverse else [zeros, gates["cell"][:, :-1]], 1)
    a = layer.cell.input_layer(x) + layer.cell.hidden_layer(before)
    i, f, o, g = (a[..., k * 4 : k * 4 + 4] for k in range(4))
    real = (torch.arange(6) < lengths[:, None]).unsqueeze(2)
    expected = {
        "input": i.sigmoid(),
        "forget": f.sigmoid(),
        "output": o.sigmoid(),
        "cell_gate": g.tanh(),
        "cell": f.sigmoid() * cell_before + i.sigmoid() * g.tanh(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(gates[name], value * real, rtol=0, atol=1e-14)
    torch.testing.assert_close(gates["output"] * gates["cell"].tanh(), output, rtol=0, atol=1e-14)


def test_recording_gates_changes_nothing_in_the_layer():
    layer = LSTMLayer(LSTMCell, 3, 4)
    x = torch.randn(2, 6, 3)
    before, _ = layer(x)
    names = sorted(layer.state_dict())

    layer.gate_activations(x)

    assert torch.equal(layer(x)[0], before)
    assert sorted(layer.state_dict()) == names


def test_gates_are_recorded_from_the_state_that_forward_takes():
    layer, pair = LSTMLayer(GRUCell, 3, 4), LSTMLayer(LSTMCell, 3, 4)
    x, state, c = torch.randn(2, 6, 3), torch.randn(2, 4), torch.randn(2, 4)

    assert torch.equal(layer.gate_activations(x, state)["hidden"], layer(x, state)[0])
    assert torch.equal(pair.gate_activations(x, (state, c))["cell"][:, -1], pair(x, (state, c))[1][1])


def test_cell_without_gates_cannot_record_them():
    with pytest.raises(TypeError, match=r"_Decay has no gates\(x, state\) and gate_names"):
        LSTMLayer(_Decay, 3, 4).gate_activations(torch.randn(1, 2, 3))


@pytest.mark.parametrize(
    ("count", "returns", "said"),
    [
        (1, lambda y: (y, (y, y)), r"a tuple of Tensor, Tensor as its state, expected \(output, h\) as its state_spec"),
        (2, lambda y: (y, (y, y, y)), r"a tuple of Tensor, Tensor, Tensor as its state, expected \(output, \(h, c\)\)"),
        (2, lambda y: (y, y), r"a Tensor as its state, expected \(output, \(h, c\)\)"),
        (2, lambda y: (y, y, y), r"a tuple of Tensor, Tensor, Tensor, expected \(output, \(h, c\)\)"),
        (2, lambda y: y, r"a Tensor, expected \(output, \(h, c\)\)"),
        (3, lambda y: (y, [y] * 4), r"a list of Tensor, Tensor, .* as its state, expected \(output, \[h, c, s\]\)"),
        (3, lambda y: (y, [y, y]), r"a list of Tensor, Tensor as its state, expected \(output, \[h, c, s\]\)"),
        (3, lambda y: (y, [y, None, y]), "a list of Tensor, NoneType, Tensor as its state"),
        (3, lambda y: (y, []), "a list of nothing as its state"),
        (1, lambda y: (y, y[:, :2]), r"h as \[2, 2\], expected \[B, 4\] as its state_spec says"),
        (2, lambda y: (y, (y, y[:, :1])), r"c as \[2, 1\], expected \[B, 4\]"),
        (3, lambda y: (y, [y, y[0], y]), r"c as \[4\], expected \[B, 4\]"),
    ],
)
@pytest.mark.parametrize("lengths", [None, torch.tensor([3, 2])], ids=["all", "ragged"])
def test_cell_that_returns_another_state_than_it_declares_is_refused(count, returns, said, lengths):
    layer = LSTMLayer(_Returns, count, returns)

    with pytest.raises(CellError, match=f"_Returns.forward returned {said}"):
        layer(torch.zeros(2, 3, 4), None, lengths)


@pytest.mark.parametrize("cell", [LSTMCell, GRUCell])
def test_integers_of_numpy_make_the_layer_of_plain_ones(cell):
    layer = LSTMLayer(cell, np.int64(3), np.int32(4))

    assert torch.jit.script(layer)(torch.zeros(2, 5, 3))[0].shape == (2, 5, 4)
