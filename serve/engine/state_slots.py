"""Where the states of lanes lie on the host between runs, and the buffer from which a run reads them.

Rules of this file: arrays only; it knows no lane. They live as long as the engine, and grow, but never shrink.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ...bundle.manifest import TensorSpec
from ..arrays import Array


class StateSlots:
    """One state tensor of all lanes, and the buffer from which a run reads it.

    Args:
        spec: of the graph's input: one axis "B", fixed sizes elsewhere.
        output: name of the graph's output that returns it.
        max_lanes: most rows of a run, and the first number of slots beside the zero one.
    """

    def __init__(self, spec: TensorSpec, output: str, max_lanes: int) -> None:
        self.input = spec.name
        self.output = output
        self._axis = spec.shape.index("B")
        self._rows_first = (self._axis, *(axis for axis in range(len(spec.shape)) if axis != self._axis))
        self._shape = spec.shape
        self._row_size = math.prod(self._sized(1))
        self._batch = np.zeros(max_lanes * self._row_size, dtype=spec.dtype)
        self._views: dict[int, Array] = {}  # of it, by rows
        self._is_zero = True  # all of it
        self._slots = np.zeros(self._sized(max_lanes + 1), dtype=spec.dtype)
        self._by_slot = self._slots.transpose(self._rows_first)  # a view

    def grow(self, slots: int) -> None:
        """Make room for more slots beside the zero one; what is kept stays where it is."""
        before = self._by_slot
        self._slots = np.zeros(self._sized(slots + 1), dtype=before.dtype)
        self._by_slot = self._slots.transpose(self._rows_first)
        self._by_slot[: len(before)] = before

    def put(self, slot: int, state: Array | None, row: int) -> None:
        """Store the row of a given state, or zero."""
        self._by_slot[slot] = 0 if state is None else state.take(row, axis=self._axis)

    def take(self, slots: NDArray[np.int64]) -> Array:
        """Gather the states of a run, in its order."""
        self._is_zero = False
        return np.take(self._slots, slots, axis=self._axis, out=self._view(len(slots)), mode="clip")

    def zeros(self, rows: int) -> Array:
        """Return the states of a run whose rows all begin from zero."""
        if not self._is_zero:
            self._batch.fill(0)
            self._is_zero = True
        return self._view(rows)

    def keep(self, slots: NDArray[np.int64], found: Array, ended: int) -> None:
        """Store the states of the rows from `ended` on."""
        self._by_slot[slots] = found.transpose(self._rows_first)[ended:]

    def _view(self, rows: int) -> Array:
        """Return the start of the buffer as the state of so many rows."""
        view = self._views.get(rows)
        if view is None:
            view = self._views[rows] = self._batch[: rows * self._row_size].reshape(self._sized(rows))
        return view

    def _sized(self, rows: int) -> tuple[int, ...]:
        return tuple(axis if isinstance(axis, int) else rows for axis in self._shape)
