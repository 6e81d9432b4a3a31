"""Where the states of lanes are on the device, moved about by a small graph of the runtime (`state_graph`).

Rules of this file: no onnxruntime import; it runs on any device, and is tested on the CPU. Nothing is written in place.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...bundle.manifest import TensorSpec
from ..arrays import Array
from .bound_graph import BoundRuns, DeviceTensor


class DeviceStates:
    """Where the state of every slot is: in the table, among what the last run returned, or given and still here.

    Args:
        mover: the graph of `state_graph`, open on the device.
        tensors: (spec of the graph's input, name of its output) for each state tensor.
        slots: beside the zero one.
    """

    def __init__(self, mover: BoundRuns, tensors: Sequence[tuple[TensorSpec, str]], slots: int) -> None:
        self._mover = mover
        self._tensors = tensors
        self._axes = [spec.shape.index("B") for spec, _ in tensors]
        self._table: list[DeviceTensor | Array] = [_zeros(spec, slots + 1) for spec, _ in tensors]
        self._table_rows = slots + 1
        self._last: list[DeviceTensor | Array] = []
        self._forget_last()
        self._given: list[list[Array]] = [[_zeros(spec, 1)] for spec, _ in tensors]  # never empty: no dimension is zero
        # Of each slot: a place in table and last, or -(n + 1) for the n-th given one.
        self._source = np.arange(slots + 1)

    def grow(self, slots: int) -> None:
        """Know more slots beside the zero one."""
        more = slots + 1 - len(self._source)
        if more > 0:
            self._source = np.concatenate([self._source, np.zeros(more, dtype=np.int64)])

    def put(self, slot: int, given: Sequence[Array | None], row: int) -> None:
        """Give a slot the row of the states that a request brought, or zeros."""
        for parts, axis, (spec, _), state in zip(self._given, self._axes, self._tensors, given, strict=True):
            parts.append(_zeros(spec, 1) if state is None else state.take([row], axis=axis))
        self._source[slot] = -len(self._given[0])

    def take(self, slots: NDArray[np.int64]) -> dict[str, DeviceTensor]:
        """Return the states of a run, in its order, by input name; every slot is in the table from now on."""
        before = self._table_rows + self._last_rows
        source = np.where(self._source < 0, before - self._source - 1, self._source)
        feeds: dict[str, Array] = {"take": source[slots], "keep": source}
        kept: dict[str, DeviceTensor] = {}
        for k, axis in enumerate(self._axes):
            feeds[f"given_{k}"] = np.concatenate(self._given[k], axis=axis)
            for part, tensor in (("table", self._table[k]), ("last", self._last[k])):
                (feeds if isinstance(tensor, np.ndarray) else kept)[f"{part}_{k}"] = tensor
        _, found = self._mover.run(feeds, kept, ())
        self._table = [found[f"kept_{k}"] for k in range(len(self._tensors))]
        self._table_rows = len(source)
        self._source = np.arange(len(source))
        self._given = [parts[:1] for parts in self._given]
        self._forget_last()  # in case the run that follows is refused: then no lane has moved
        return {spec.name: found[f"next_{k}"] for k, (spec, _) in enumerate(self._tensors)}

    def returned(self, tensors: dict[str, DeviceTensor], rows: int) -> None:
        """Hold what a run returned, by output name, for those of its rows that go on."""
        self._last = [tensors[output] for _, output in self._tensors]
        self._last_rows = rows

    def keep(self, slots: NDArray[np.int64], ended: int) -> None:
        """Say whose the returned rows from `ended` on are."""
        self._source[slots] = self._table_rows + ended + np.arange(len(slots))

    def _forget_last(self) -> None:
        self._last = [_zeros(spec, 1) for spec, _ in self._tensors]
        self._last_rows = 1


def _zeros(spec: TensorSpec, rows: int) -> Array:
    return np.zeros([axis if isinstance(axis, int) else rows for axis in spec.shape], dtype=spec.dtype)
