"""The float64 reference: free of torch, right on numbers worked out one by one, and strict about what it is given."""

import math
import subprocess
import sys

import numpy as np
import pytest

from cellgate.model import run_reference
from cellgate.model.reference_cells import sigmoid

_LSTM = {
    "input_dim": 2,
    "hidden_dim": [2],
    "output_dim": None,
    "cell": "LSTMCell",
    "num_layers": 1,
    "bidirectional": False,
    "dropout": 0.0,
    "front": None,
    "front_dim": None,
    "reads": "every_step",
    "cell_options": {},
}


def _weights(description: dict, *, gates: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random weights of a network of LSTM or GRU cells."""
    random = np.random.default_rng(seed)
    directions = 2 if description["bidirectional"] else 1
    weights, width = {}, description["input_dim"]
    for s, H in enumerate(description["hidden_dim"]):
        for row in range(description["num_layers"] * directions):
            if row and row % directions == 0:
                width = H * directions
            prefix = f"stacks.{s}.layers.{row}.cell."
            for name, columns in (("input_layer", width), ("hidden_layer", H)):
                weights[f"{prefix}{name}.weight"] = random.normal(size=(gates * H, columns))
                weights[f"{prefix}{name}.bias"] = random.normal(size=gates * H)
        width = H * directions
    return weights


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _sum(weights: dict, name: str, row: int, values: list[float]) -> float:
    products = (w * v for w, v in zip(weights[f"{name}.weight"][row].tolist(), values, strict=True))
    return weights[f"{name}.bias"][row] + sum(products)


def _lstm_by_hand(weights: dict, prefix: str, steps: list[list[float]]) -> tuple[list[list[float]], list[float]]:
    """Run one LSTM row unit by unit in Python floats: (outputs, final cell state)."""
    H = weights[f"{prefix}hidden_layer.weight"].shape[1]
    h, c, outputs = [0.0] * H, [0.0] * H, []
    for x in steps:
        a = [
            _sum(weights, f"{prefix}input_layer", k, x) + _sum(weights, f"{prefix}hidden_layer", k, h)
            for k in range(4 * H)
        ]
        c = [_logistic(a[H + k]) * c[k] + _logistic(a[k]) * math.tanh(a[3 * H + k]) for k in range(H)]
        h = [_logistic(a[2 * H + k]) * math.tanh(c[k]) for k in range(H)]
        outputs.append(h)
    return outputs, c


def test_reference_imports_no_torch():
    code = "import sys; import cellgate.model.reference; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lstm_is_the_equations_worked_out_unit_by_unit():
    weights = _weights(_LSTM)
    x = np.random.default_rng(1).normal(size=(1, 5, 2))

    y, (h, c) = run_reference(_LSTM, weights, x)

    outputs, cell = _lstm_by_hand(weights, "stacks.0.layers.0.cell.", x[0].tolist())
    np.testing.assert_allclose(y[0], outputs, rtol=0, atol=1e-15)
    np.testing.assert_allclose(h[0, 0], outputs[-1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(c[0, 0], cell, rtol=0, atol=1e-15)


def test_gru_is_the_equations_worked_out_unit_by_unit():
    description = _LSTM | {"cell": "GRUCell"}
    weights = _weights(description, gates=3)
    x = np.random.default_rng(1).normal(size=(1, 5, 2))

    y, _ = run_reference(description, weights, x)

    h, prefix = [0.0, 0.0], "stacks.0.layers.0.cell."
    for t, step in enumerate(x[0].tolist()):
        from_x = [_sum(weights, f"{prefix}input_layer", k, step) for k in range(6)]
        from_h = [_sum(weights, f"{prefix}hidden_layer", k, h) for k in range(6)]
        r, z = ([_logistic(from_x[g + k] + from_h[g + k]) for k in range(2)] for g in (0, 2))
        n = [math.tanh(from_x[4 + k] + r[k] * from_h[4 + k]) for k in range(2)]
        h = [(1 - z[k]) * n[k] + z[k] * h[k] for k in range(2)]
        np.testing.assert_allclose(y[0, t], h, rtol=0, atol=1e-15)


def test_bidirectional_layers_and_stacks_stand_above_each_other():
    description = _LSTM | {"hidden_dim": [2, 3], "num_layers": 2, "bidirectional": True}
    weights = _weights(description)
    x, lengths = np.random.default_rng(1).normal(size=(2, 6, 2)), [6, 3]

    y, state = run_reference(description, weights, x, lengths)

    for b, n in enumerate(lengths):
        signal, cells = x[b, :n].tolist(), []
        for s in range(2):
            for layer in range(2):
                forwards, c = _lstm_by_hand(weights, f"stacks.{s}.layers.{2 * layer}.cell.", signal)
                backwards, c_back = _lstm_by_hand(weights, f"stacks.{s}.layers.{2 * layer + 1}.cell.", signal[::-1])
                cells.append((s, 2 * layer, c))
                cells.append((s, 2 * layer + 1, c_back))
                signal = [p + q for p, q in zip(forwards, backwards[::-1], strict=True)]
        np.testing.assert_allclose(y[b, :n], signal, rtol=0, atol=1e-14)
        assert not y[b, n:].any()
        for s, row, c in cells:
            np.testing.assert_allclose(state[2 * s + 1][row, b], c, rtol=0, atol=1e-14)


@pytest.mark.parametrize("reads", ["every_step", "last_step", "mean", "max"])
def test_padding_is_never_read(reads):
    description = _LSTM | {"reads": reads, "bidirectional": True}
    weights = _weights(description)
    x, lengths = np.random.default_rng(1).normal(size=(3, 6, 2)), [6, 3, 3]
    poisoned = x.copy()
    poisoned[1:, 3:] = np.nan

    y, state = run_reference(description, weights, poisoned, lengths)

    expected, expected_state = run_reference(description, weights, x, lengths)
    assert np.array_equal(y, expected)
    assert all(np.array_equal(a, b) for a, b in zip(state, expected_state, strict=True))


@pytest.mark.parametrize(("reads", "expected"), [("last_step", lambda h: h[-1]), ("mean", np.mean), ("max", np.max)])
def test_read_is_taken_over_the_real_steps(reads, expected):
    weights = _weights(_LSTM)
    x = np.random.default_rng(1).normal(size=(1, 7, 2))

    y, _ = run_reference(_LSTM | {"reads": reads}, weights, x, [4])

    every, _ = run_reference(_LSTM, weights, x, [4])
    np.testing.assert_allclose(y[0], [expected(every[0, :4, k]) for k in range(2)], rtol=0, atol=1e-15)


@pytest.mark.parametrize("reads", ["every_step", "last_step", "mean", "max"])
def test_chunks_with_carried_state_are_the_whole(reads):
    description = _LSTM | {"reads": reads, "num_layers": 2}
    weights = _weights(description)
    x = np.random.default_rng(1).normal(size=(2, 9, 2))

    _, state = run_reference(description, weights, x[:, :4])
    y, last = run_reference(description, weights, x[:, 4:], None, state)

    whole, whole_last = run_reference(description, weights, x)
    np.testing.assert_allclose(y, whole[:, 4:] if reads == "every_step" else whole, rtol=0, atol=1e-14)
    for a, b in zip(last, whole_last, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_after_step_that_changes_nothing_gives_the_same_and_sees_every_step_of_every_cell(bidirectional):
    description = _LSTM | {"hidden_dim": [2, 3], "num_layers": 2, "bidirectional": bidirectional}
    weights = _weights(description)
    x = np.random.default_rng(1).normal(size=(2, 5, 2))
    seen = []

    def look(state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        seen.append([tensor.shape for tensor in state])
        return state

    y, _ = run_reference(description, weights, x, after_step=look)

    assert np.array_equal(y, run_reference(description, weights, x)[0])
    cells = 2 * (1 + bidirectional)
    assert seen == [[(2, 2), (2, 2)]] * 5 * cells + [[(2, 3), (2, 3)]] * 5 * cells


def test_after_step_gives_the_state_to_go_on_with_and_the_output():
    weights = _weights(_LSTM)
    x = np.random.default_rng(1).normal(size=(1, 3, 2))

    y, (h, c) = run_reference(_LSTM, weights, x, after_step=lambda state: (state[0] + 0.5, state[1] * 2.0))

    hidden, cell = np.zeros((1, 1, 2)), np.zeros((1, 1, 2))
    for t in range(3):
        _, (hidden, cell) = run_reference(_LSTM, weights, x[:, t : t + 1], None, [hidden, cell])
        hidden, cell = hidden + 0.5, cell * 2.0
        np.testing.assert_allclose(y[:, t], hidden[0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(h, hidden, rtol=0, atol=1e-15)
    np.testing.assert_allclose(c, cell, rtol=0, atol=1e-15)


def test_ten_thousand_steps_stay_finite_and_bounded():
    weights = _weights(_LSTM)
    x = np.random.default_rng(1).normal(size=(1, 10_000, 2))

    y, _ = run_reference(_LSTM, weights, x)

    assert np.abs(y).max() <= 1


def test_float32_weights_and_input_are_computed_in_float64():
    weights = {name: weight.astype(np.float32) for name, weight in _weights(_LSTM).items()}
    x = np.random.default_rng(1).normal(size=(1, 5, 2)).astype(np.float32)

    y, state = run_reference(_LSTM, weights, x)

    assert {array.dtype for array in (y, *state)} == {np.dtype(np.float64)}
    wide = {name: weight.astype(np.float64) for name, weight in weights.items()}
    assert np.array_equal(y, run_reference(_LSTM, wide, x.astype(np.float64))[0])


def test_saturated_sigmoid_neither_overflows_nor_vanishes():
    with np.errstate(all="raise", under="ignore"):
        actual = sigmoid(np.array([-1e4, -700.0, -40.0, 0.0, 40.0, 1e4]))

    expected = [0.0, math.exp(-700), math.exp(-40), 0.5, 1.0, 1.0]
    np.testing.assert_allclose(actual, expected, rtol=1e-15, atol=0)


def test_single_width_may_be_a_number():
    weights = _weights(_LSTM)
    x = np.ones((1, 3, 2))

    assert np.array_equal(run_reference(_LSTM | {"hidden_dim": 2}, weights, x)[0], run_reference(_LSTM, weights, x)[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cell": "RNNCell"}, "cell is 'RNNCell', expected one of LSTMCell"),
        ({"reads": "sum"}, "reads is 'sum', expected one of every_step"),
        ({"front": "conv", "front_dim": 2}, "front is 'conv', expected None, 'linear' or 'embedding'"),
        ({"cell_options": {"zoneout": 0.1}}, "LSTMCell has no option zoneout, expected some of bias"),
        ({"cell_options": {"gate_activation": "gelu"}}, "activation 'gelu' is not known"),
        ({"output_dim": 3}, r"head.weight is missing among the weights, expected \[3, 2\]"),
        ({"input_dim": 4}, r"stacks.0.layers.0.cell.input_layer.weight is \[8, 2\], expected \[8, 4\]"),
        ({"cell_options": {"bias": False}}, "no use for the weights stacks.0.layers.0.cell.hidden_layer.bias"),
    ],
)
def test_description_and_weights_that_do_not_fit_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        run_reference(_LSTM | change, _weights(_LSTM), np.zeros((1, 3, 2)))


@pytest.mark.parametrize("tokens", [[[0, -1]], [[0, 5]], [[0.0, 1.0]]])
def test_tokens_outside_the_table_are_refused(tokens):
    description = _LSTM | {"front": "embedding", "input_dim": 5, "front_dim": 2}
    weights = _weights(_LSTM) | {"front.weight": np.ones((5, 2))}

    with pytest.raises(ValueError, match=r"expected integers in 0\.\.4"):
        run_reference(description, weights, tokens)


@pytest.mark.parametrize("lengths", [[0, 3], [4, 3], [3], [[3, 3]], [3.0, 3.0]])
def test_lengths_outside_the_steps_are_refused(lengths):
    with pytest.raises(ValueError, match=r"expected 2 integers in 1\.\.3"):
        run_reference(_LSTM, _weights(_LSTM), np.zeros((2, 3, 2)), lengths)


@pytest.mark.parametrize("state", [[], [np.zeros((1, 2, 2))], [np.zeros((1, 1, 2)), np.zeros((1, 2, 2))]])
def test_state_of_another_shape_is_refused(state):
    with pytest.raises(ValueError, match=r"expected \[\(1, 2, 2\), \(1, 2, 2\)\]"):
        run_reference(_LSTM, _weights(_LSTM), np.zeros((2, 3, 2)), None, state)
