"""A runtime that counts what it is given: it stands between an engine and the runtime that it runs.

Rules of this file: it adds two sums to a run, and is otherwise the runtime, also one that keeps tensors on the device.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ...bundle.manifest import TensorSpec
from ..arrays import Array, Arrays
from ..runtime.bound_graph import BoundRuns, DeviceTensor
from ..runtime.runtime import DeviceRuntime, Runtime, StatePlaces
from ..runtime.wrapped_runtime import WrappedRuntime


class CountingRuntime(WrappedRuntime[Runtime]):
    """Counts the steps of the runs of a runtime.

    Args:
        runtime: open; closed by `close`.

    Attributes:
        useful: steps of real rows since the start.
        computed: steps computed since the start, padding included.
    """

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._sequence, self._lengths = runtime.signature.sequence, runtime.signature.lengths
        self.useful = self.computed = 0

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """Count and run."""
        self.count(feeds)
        return self._runtime.run(feeds)

    def count(self, feeds: Arrays) -> None:
        """Count what a run is given."""
        rows, steps = feeds[self._sequence].shape[:2]
        self.computed += rows * steps
        lengths = None if self._lengths is None else feeds[self._lengths]
        self.useful += rows * steps if lengths is None else int(np.add.reduce(lengths))

    def bound(self) -> BoundRuns:
        """Count and run with tensors left on the device; only where the runtime can."""
        assert isinstance(self._runtime, DeviceRuntime)
        return _CountingGraph(self, self._runtime.bound())

    def states(self, tensors: Sequence[tuple[TensorSpec, str]], slots: int) -> StatePlaces:
        """Of the runtime."""
        assert isinstance(self._runtime, DeviceRuntime)
        return self._runtime.states(tensors, slots)

    def close(self) -> None:
        """Close the runtime."""
        self._runtime.close()


class _CountingGraph:
    def __init__(self, counter: CountingRuntime, graph: BoundRuns) -> None:
        self._counter = counter
        self._graph = graph

    def run(
        self, feeds: Arrays, kept: Mapping[str, DeviceTensor], wanted: Collection[str]
    ) -> tuple[dict[str, Array], dict[str, DeviceTensor]]:
        self._counter.count(feeds)
        return self._graph.run(feeds, kept, wanted)

    def wait(self) -> None:
        self._graph.wait()
