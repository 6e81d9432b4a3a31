"""States of lanes on the GPU: a table of slots, from which a run gathers its rows and into which it puts them back.

Rules of this file: what is queued is in order, so a table may be written as soon as its reading is queued. Nothing
waits but memory that grows.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...bundle.manifest import TensorSpec
from ..arrays import Array
from ..start_errors import ServerStartError
from .gpu import Gpu
from .memory import Placed, Scratch
from .products import Products

_NUMBER_BYTES: Final = 4
_AXES: Final = 3


class KernelStates:
    """The states of all lanes of a model.

    Args:
        gpu: where.
        products: its kernels.
        tensors: (spec of the graph's input [L, B, H], name of its output) for each state tensor.
        slots: beside the zero one.

    Raises:
        ServerStartError: a state has other axes, or another dtype.
    """

    def __init__(self, gpu: Gpu, products: Products, tensors: Sequence[tuple[TensorSpec, str]], slots: int) -> None:
        for spec, _ in tensors:
            if spec.dtype != "float32" or len(spec.shape) != _AXES or spec.shape[1] != "B":
                found = f"{spec.dtype} {list(spec.shape)}"
                raise ServerStartError(f"state {spec.name}: expected float32 [L, B, H], found {found}")
        self._gpu, self._products, self._tensors = gpu, products, tensors
        self._sizes = [(int(spec.shape[0]), int(spec.shape[2])) for spec, _ in tensors]
        self._rows = slots + 1
        self._tables = [gpu.allocate(self._bytes(k, self._rows)) for k in range(len(tensors))]
        self._batches = [Scratch(gpu) for _ in tensors]
        self._brought = [Scratch(gpu) for _ in tensors]
        self._numbers = Scratch(gpu)
        self._last: dict[str, Placed] = {}
        self._given: dict[int, list[Array | None]] = {}  # slot -> states that a request brought and no run has read

    def grow(self, slots: int) -> None:
        """Know more slots beside the zero one."""
        rows = slots + 1
        if rows <= self._rows:
            return
        self._gpu.enter()
        made = [self._gpu.allocate(self._bytes(k, rows)) for k in range(len(self._tables))]
        for old, new, (layers, hidden) in zip(self._tables, made, self._sizes, strict=True):
            for layer in range(layers):
                offset = _NUMBER_BYTES * layer * hidden
                self._gpu.copy(old + offset * self._rows, new + offset * rows, _NUMBER_BYTES * self._rows * hidden)
        self._gpu.synchronize()
        old_tables, self._tables, self._rows = self._tables, made, rows  # together, or not at all
        for old in old_tables:
            self._gpu.free(old)

    def put(self, slot: int, given: Sequence[Array | None], row: int) -> None:
        """Give a slot the row of the states that a request brought, or zeros."""
        self._given[slot] = [None if state is None else state[:, row].copy() for state in given]

    def take(self, slots: NDArray[np.int64]) -> dict[str, Placed]:
        """Return the states of a run, in its order, by input name."""
        self._gpu.enter()
        self._bring()
        count = len(slots)
        numbers = self._upload(slots, np.arange(count))
        found = {}
        for k, ((layers, hidden), (spec, _)) in enumerate(zip(self._sizes, self._tensors, strict=True)):
            batch = self._batches[k].at_least(self._bytes(k, count))
            shapes = (layers, self._rows, count, hidden)
            self._products.move(self._tables[k], batch, numbers, shapes)
            found[spec.name] = Placed(self._gpu, batch, (layers, count, hidden))
        return found

    def returned(self, tensors: dict[str, Placed], rows: int) -> None:  # noqa: ARG002
        """Hold what a run returned, by output name."""
        self._last = tensors

    def keep(self, slots: NDArray[np.int64], ended: int) -> None:
        """Store the returned rows from `ended` on."""
        self._gpu.enter()
        numbers = self._upload(ended + np.arange(len(slots)), slots)
        for k, ((layers, hidden), (_, output)) in enumerate(zip(self._sizes, self._tensors, strict=True)):
            last = self._last[output]
            shapes = (layers, last.shape[1], self._rows, hidden)
            self._products.move(last.address, self._tables[k], numbers, shapes)

    def _bring(self) -> None:
        if not self._given:
            return
        slots, given = np.array(list(self._given)), list(self._given.values())
        numbers = self._upload(np.arange(len(slots)), slots)
        for k, (layers, hidden) in enumerate(self._sizes):
            zero = np.zeros((layers, hidden), dtype=np.float32)
            states = np.stack([zero if (state := parts[k]) is None else state for parts in given], axis=1)
            place = self._brought[k].at_least(states.nbytes)
            self._gpu.upload(np.ascontiguousarray(states), place)
            shapes = (layers, len(slots), self._rows, hidden)
            self._products.move(place, self._tables[k], numbers, shapes)
        self._given = {}  # only now: what could not be sent is still to be sent

    def _upload(self, taken: NDArray[np.int64], put: NDArray[np.int64]) -> tuple[int, int, int]:
        both = np.concatenate([taken, put]).astype(np.int32)
        place = self._numbers.at_least(both.nbytes)
        self._gpu.upload(both, place)
        return place, place + both.nbytes // 2, len(put)

    def _bytes(self, k: int, rows: int) -> int:
        layers, hidden = self._sizes[k]
        return _NUMBER_BYTES * layers * rows * hidden
