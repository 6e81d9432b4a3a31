"""The cells of the float64 reference: each one's equations, written from the papers named in reference.py.

Rules of this file: NumPy only, and nothing from the files of the networks that it judges. What does not depend on the
state is computed for all steps at once; a step is the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
State = tuple[Array, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell of one layer and direction.

    Attributes:
        widths: of the state tensors; the first is the output's.
        project: input [B, T, I] to contribution [B, T, G].
        step: contribution [B, G] and state to the new state, whose first tensor is the output.
    """

    widths: tuple[int, ...]
    project: Callable[[Array], Array]
    step: Callable[[Array, State], State]


class Weights:
    """Named arrays, each taken in the shape that the equations demand; what is left over is an error."""

    def __init__(self, arrays: Mapping[str, ArrayLike], prefix: str = "", taken: set[str] | None = None) -> None:
        self._arrays = arrays
        self._prefix = prefix
        self._taken: set[str] = set() if taken is None else taken

    def below(self, prefix: str) -> "Weights":
        """Return the weights whose names begin with ``prefix``, named without it."""
        return Weights(self._arrays, self._prefix + prefix, self._taken)

    def take(self, name: str, *shape: int) -> Array:
        """Return one array as float64.

        Raises:
            ValueError: it is missing or has another shape.
        """
        key = self._prefix + name
        if key not in self._arrays:
            raise ValueError(f"{key} is missing among the weights, expected {list(shape)}")
        array = np.asarray(self._arrays[key], dtype=np.float64)
        if array.shape != shape:
            raise ValueError(f"{key} is {list(array.shape)}, expected {list(shape)}")
        self._taken.add(key)
        return array

    def finish(self) -> None:
        """Raise ValueError where an array was never taken."""
        left = sorted(set(self._arrays) - self._taken)
        if left:
            raise ValueError(f"the network has no use for the weights {', '.join(left)}")

    def linear(self, name: str, O: int, I: int, *, bias: bool = True) -> tuple[Array, Array]:
        """Return (weight transposed [I, O], bias [O], zeros without one) of a linear layer."""
        weight = np.ascontiguousarray(self.take(f"{name}.weight", O, I).T)
        return weight, self.take(f"{name}.bias", O) if bias else np.zeros(O)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) without overflow, and without loss where the result is tiny."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


_ACTIVATIONS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "hard_sigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
}


def make_cell(name: str, weights: Weights, I: int, H: int, options: Mapping[str, Any]) -> Cell:
    """Return the cell called ``name`` with input width I and hidden width H.

    Raises:
        ValueError: the name, an option or an activation is unknown.
    """
    if name not in _CELLS:
        raise ValueError(f"cell is {name!r}, expected one of {', '.join(_CELLS)}")
    maker, known = _CELLS[name]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}, expected some of {', '.join(known)}")
    return maker(weights, I, H, options)


def _lstm(weights: Weights, I: int, H: int, options: Mapping[str, Any]) -> Cell:
    bias = options.get("bias", True)
    W, b_W = weights.linear("input_layer", 4 * H, I, bias=bias)
    U, b_U = weights.linear("hidden_layer", 4 * H, H, bias=bias)
    squash_gate = _activation(options.get("gate_activation", "sigmoid"))
    squash_cell = _activation(options.get("cell_activation", "tanh"))
    squash_output = _activation(options.get("output_activation", "tanh"))

    def step(contribution: Array, state: State) -> State:
        h, c = state
        a = contribution + h @ U
        gates = squash_gate(a[:, : 3 * H])
        i, f, o = gates[:, :H], gates[:, H : 2 * H], gates[:, 2 * H :]
        c = f * c + i * squash_cell(a[:, 3 * H :])
        return o * squash_output(c), c

    return Cell(widths=(H, H), project=lambda x: x @ W + b_W + b_U, step=step)


def _peephole(weights: Weights, I: int, H: int, options: Mapping[str, Any]) -> Cell:
    bias = options.get("bias", True)
    W, b_W = weights.linear("input_layer", 4 * H, I, bias=bias)
    U, b_U = weights.linear("hidden_layer", 4 * H, H, bias=bias)
    p_i, p_f, p_o = (weights.take(f"{gate}_peephole", H) for gate in ("input", "forget", "output"))

    def step(contribution: Array, state: State) -> State:
        h, c = state
        a_i, a_f, a_o, a_g = np.split(contribution + h @ U, 4, axis=1)
        c_new = sigmoid(a_f + p_f * c) * c + sigmoid(a_i + p_i * c) * np.tanh(a_g)
        return sigmoid(a_o + p_o * c_new) * np.tanh(c_new), c_new

    return Cell(widths=(H, H), project=lambda x: x @ W + b_W + b_U, step=step)


def _coupled(weights: Weights, I: int, H: int, options: Mapping[str, Any]) -> Cell:
    bias = options.get("bias", True)
    W, b_W = weights.linear("input_layer", 3 * H, I, bias=bias)
    U, b_U = weights.linear("hidden_layer", 3 * H, H, bias=bias)

    def step(contribution: Array, state: State) -> State:
        h, c = state
        a_i, a_o, a_g = np.split(contribution + h @ U, 3, axis=1)
        # sigmoid(-a) is 1 - sigmoid(a) without its cancellation.
        c = sigmoid(-a_i) * c + sigmoid(a_i) * np.tanh(a_g)
        return sigmoid(a_o) * np.tanh(c), c

    return Cell(widths=(H, H), project=lambda x: x @ W + b_W + b_U, step=step)


def _layer_norm(weights: Weights, I: int, H: int, options: Mapping[str, Any]) -> Cell:
    epsilon = float(options.get("epsilon", 1e-5))
    W, _ = weights.linear("input_layer", 4 * H, I, bias=False)
    U, _ = weights.linear("hidden_layer", 4 * H, H, bias=False)

    def make_norm(name: str, width: int) -> Callable[[Array], Array]:
        gain, offset = weights.take(f"{name}.weight", width), weights.take(f"{name}.bias", width)

        def norm(a: Array) -> Array:
            centred = a - a.mean(axis=-1, keepdims=True)
            variance = (centred * centred).mean(axis=-1, keepdims=True)
            normed: Array = centred / np.sqrt(variance + epsilon) * gain + offset
            return normed

        return norm

    input_norm, hidden_norm = make_norm("input_norm", 4 * H), make_norm("hidden_norm", 4 * H)
    cell_norm = make_norm("cell_norm", H)

    def step(contribution: Array, state: State) -> State:
        h, c = state
        a_i, a_f, a_o, a_g = np.split(contribution + hidden_norm(h @ U), 4, axis=1)
        c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
        return sigmoid(a_o) * np.tanh(cell_norm(c)), c

    return Cell(widths=(H, H), project=lambda x: input_norm(x @ W), step=step)


def _projected(weights: Weights, I: int, H: int, options: Mapping[str, Any]) -> Cell:
    bias, P = options.get("bias", True), int(options["projection_dim"])
    W, b_W = weights.linear("input_layer", 4 * H, I, bias=bias)
    U, b_U = weights.linear("hidden_layer", 4 * H, P, bias=bias)
    R, _ = weights.linear("projection", P, H, bias=False)

    def step(contribution: Array, state: State) -> State:
        h, c = state
        a_i, a_f, a_o, a_g = np.split(contribution + h @ U, 4, axis=1)
        c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
        return (sigmoid(a_o) * np.tanh(c)) @ R, c

    return Cell(widths=(P, H), project=lambda x: x @ W + b_W + b_U, step=step)


def _gru(weights: Weights, I: int, H: int, options: Mapping[str, Any]) -> Cell:
    bias = options.get("bias", True)
    W, b_W = weights.linear("input_layer", 3 * H, I, bias=bias)
    U, b_U = weights.linear("hidden_layer", 3 * H, H, bias=bias)

    def step(contribution: Array, state: State) -> State:
        (h,) = state
        recurrent = h @ U + b_U
        gates = sigmoid(contribution[:, : 2 * H] + recurrent[:, : 2 * H])
        r, z = gates[:, :H], gates[:, H:]
        n = np.tanh(contribution[:, 2 * H :] + r * recurrent[:, 2 * H :])
        return ((1.0 - z) * n + z * h,)

    return Cell(widths=(H,), project=lambda x: x @ W + b_W, step=step)


def _activation(name: str) -> Callable[[Array], Array]:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not known, expected one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


_CELLS: Final[Mapping[str, tuple[Callable[[Weights, int, int, Mapping[str, Any]], Cell], tuple[str, ...]]]] = {
    "LSTMCell": (_lstm, ("bias", "gate_activation", "cell_activation", "output_activation")),
    "PeepholeLSTMCell": (_peephole, ("bias",)),
    "CoupledLSTMCell": (_coupled, ("bias",)),
    "LayerNormLSTMCell": (_layer_norm, ("epsilon",)),
    "ProjectedLSTMCell": (_projected, ("bias", "projection_dim")),
    "GRUCell": (_gru, ("bias",)),
}
