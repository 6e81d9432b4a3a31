"""What a network must compute, in float64 NumPy: the oracle that shares nothing with what it judges.

Rules of this file: no torch, and nothing from the files beside it. It is written from the papers' equations, one
sequence as long as it is: rows of equal length are run together, and no step of padding is ever computed.

With W the input weights, U the recurrent ones, b both biases, s the logistic function, * by element:

    LSTM        i, f, o, g = W x + U h + b;   c' = s(f) * c + s(i) * tanh(g);   h' = s(o) * tanh(c')
    peephole    i and f also see p * c, o sees p * c'                      Gers & Schmidhuber (2000)
    coupled     i, o, g only, and s(f) = 1 - s(i)                          Greff et al. (2017), CIFG
    norm        i, f, o, g = N(W x) + N(U h);   h' = s(o) * tanh(N(c'))    Ba, Kiros & Hinton (2016), eq. 20-22
    projected   h' = R (s(o) * tanh(c'))                                   Sak, Senior & Beaufays (2014)
    GRU         r, z = s(W x + U h + b);   n = tanh(W x + b_W + r * (U h + b_U));   h' = (1 - z) * n + z * h
                                                                           Cho et al. (2014), reset gate as in cuDNN
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .reference_cells import Array, Cell, State, Weights, make_cell

_READS: Final = ("every_step", "last_step", "mean", "max")


def run_reference(
    description: Mapping[str, Any],
    weights: Mapping[str, ArrayLike],
    x: ArrayLike,
    lengths: ArrayLike | None = None,
    state: Sequence[ArrayLike] | None = None,
    after_step: Callable[[State], State] | None = None,
) -> tuple[Array, list[Array]]:
    """Run a network on sequences of unequal length.

    Args:
        description: as ``SequenceModel.describe`` gives it; dropout is not applied.
        weights: name -> array, the whole state dict of that network.
        x: [B, T, I], or tokens [B, T] for an embedding front; T >= 1.
        lengths: integer [B], each in 1..T; None for all T. What stands at and after a row's length is never read.
        state: tensors [rows, B, width] as ``SequenceModel.state_tensors`` lists them; None for zeros.
        after_step: given the state of a cell after each step, tensors [B, width], returns the one to go on with: for
            studies of how errors spread.

    Returns:
        (y, state), float64: y [B, T, O], zero at and after a row's length, or [B, O]; the state after the last steps.

    Raises:
        ValueError: description, weights, lengths or state do not fit; the message names what and both shapes.
    """
    network = _Network(description, weights, after_step)
    x = np.asarray(x) if network.takes_tokens else np.asarray(x, dtype=np.float64)
    B, T = x.shape[:2]
    counts = np.full(B, T) if lengths is None else np.asarray(lengths)
    whole = np.issubdtype(counts.dtype, np.integer)
    if counts.shape != (B,) or not whole or not ((counts >= 1) & (counts <= T)).all():
        raise ValueError(f"lengths is {counts.tolist()}, expected {B} integers in 1..{T}")
    initial = network.check_state(state, B)
    y = np.zeros((B, T, network.output_dim) if network.reads == "every_step" else (B, network.output_dim))
    final = [np.empty_like(tensor) for tensor in initial]
    for n in np.unique(counts):
        rows = np.flatnonzero(counts == n)
        answer, last = network.run(x[rows, :n], [tensor[:, rows] for tensor in initial])
        if network.reads == "every_step":
            y[rows, :n] = answer
        else:
            y[rows] = answer
        for tensor, part in zip(final, last, strict=True):
            tensor[:, rows] = part
    return y, final


class _Network:
    """Front, stacks and head of one description, over rows of equal length."""

    def __init__(
        self,
        description: Mapping[str, Any],
        arrays: Mapping[str, ArrayLike],
        after_step: Callable[[State], State] | None,
    ) -> None:
        self._after_step = after_step
        weights = Weights(arrays)
        I, H = description["input_dim"], description["hidden_dim"]
        self.reads: str = description["reads"]
        if self.reads not in _READS:
            raise ValueError(f"reads is {self.reads!r}, expected one of {', '.join(_READS)}")
        self.takes_tokens = description["front"] == "embedding"
        self._front, width = _make_front(weights, description["front"], I, description["front_dim"])
        self._directions = 2 if description["bidirectional"] else 1
        self._stacks: list[list[Cell]] = []
        for s, hidden_dim in enumerate([H] if isinstance(H, int) else H):
            cells: list[Cell] = []
            for row in range(description["num_layers"] * self._directions):
                if row and row % self._directions == 0:
                    width = cells[0].widths[0] * self._directions
                below = weights.below(f"stacks.{s}.layers.{row}.cell.")
                cells.append(make_cell(description["cell"], below, width, hidden_dim, description["cell_options"]))
            width = cells[0].widths[0] * self._directions
            self._stacks.append(cells)
        self._pooled_dim = width
        self._head, self.output_dim = _make_linear(weights, "head", width, description["output_dim"])
        weights.finish()

    def check_state(self, state: Sequence[ArrayLike] | None, B: int) -> list[Array]:
        """Return the state as float64 arrays of the right shapes; zeros for None."""
        shapes = [(len(cells), B, width) for cells in self._stacks for width in cells[0].widths]
        if self.reads in {"mean", "max"}:
            shapes += [(1, B, self._pooled_dim), (1, B, 1)]
        if state is None:
            return [np.zeros(shape) for shape in shapes]
        arrays = [np.asarray(tensor, dtype=np.float64) for tensor in state]
        if [array.shape for array in arrays] != shapes:
            raise ValueError(f"state is {[array.shape for array in arrays]}, expected {shapes}")
        return arrays

    def run(self, x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        """Run rows of one length: x [B, T, ...], T steps all real."""
        signal = self._front(x)
        finals: list[Array] = []
        for cells in self._stacks:
            count = len(cells[0].widths)
            signal, last = self._run_stack(cells, signal, state[len(finals) : len(finals) + count])
            finals += last
        if self.reads == "every_step":
            return self._head(signal), finals
        if self.reads == "last_step":
            return self._head(signal[:, -1]), finals
        pooled, carried = _pool(self.reads, signal, state[-2][0], state[-1][0])
        return self._head(pooled), finals + [tensor[np.newaxis] for tensor in carried]

    def _run_stack(self, cells: list[Cell], signal: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        finals = [np.empty_like(tensor) for tensor in state]
        outputs: list[Array] = []
        for row, cell in enumerate(cells):
            backwards = row % self._directions == 1
            ordered, first = signal[:, ::-1] if backwards else signal, tuple(s[row] for s in state)
            output, last = _run_cell(cell, ordered, first, self._after_step)
            outputs.append(output[:, ::-1] if backwards else output)
            for tensor, value in zip(finals, last, strict=True):
                tensor[row] = value
            if len(outputs) == self._directions:
                signal = np.concatenate(outputs, axis=2)
                outputs = []
        return signal, finals


def _run_cell(cell: Cell, x: Array, state: State, after_step: Callable[[State], State] | None) -> tuple[Array, State]:
    """Run x [B, T, I] through one cell: (output [B, T, H], final state)."""
    contribution = cell.project(x)
    output = np.empty((*x.shape[:2], cell.widths[0]))
    for t in range(x.shape[1]):
        state = cell.step(contribution[:, t], state)
        if after_step is not None:
            state = after_step(state)
        output[:, t] = state[0]
    return output, state


def _pool(kind: str, signal: Array, pool: Array, count: Array) -> tuple[Array, tuple[Array, Array]]:
    """Return the mean or maximum over the steps before and these, and (sum or maximum, count) to carry."""
    seen = count + signal.shape[1]
    if kind == "mean":
        total = pool + signal.sum(axis=1)
        return total / seen, (total, seen)
    highest = signal.max(axis=1)
    highest = np.where(count > 0, np.maximum(pool, highest), highest)
    return highest, (highest, seen)


def _make_front(weights: Weights, kind: str | None, I: int, width: int | None) -> tuple[Callable[[Array], Array], int]:
    if kind == "embedding":
        assert width is not None
        table = weights.take("front.weight", I, width)
        return lambda tokens: _look_up(table, tokens), width
    if kind not in {None, "linear"}:
        raise ValueError(f"front is {kind!r}, expected None, 'linear' or 'embedding'")
    return _make_linear(weights, "front", I, width if kind else None)


def _look_up(table: Array, tokens: NDArray[Any]) -> Array:
    """Return rows of ``table``; NumPy alone would take a negative token from the end."""
    if not np.issubdtype(tokens.dtype, np.integer) or not ((tokens >= 0) & (tokens < len(table))).all():
        raise ValueError(f"tokens are {tokens.dtype}, expected integers in 0..{len(table) - 1}")
    rows: Array = table[tokens]
    return rows


def _make_linear(weights: Weights, name: str, I: int, O: int | None) -> tuple[Callable[[Array], Array], int]:
    if O is None:
        return lambda x: x, I
    weight, bias = weights.linear(name, O, I)
    return lambda x: x @ weight + bias, O
