"""Lanes whose states stay on the device between runs.

What was weighed. Fixed places (a lane is a row for its whole life) need no moving about, but then a run has a row for
every lane, also for those that the planner leaves out, and a row cannot stand still: at length 0 onnxruntime returns a
zero state (`infer/input_check`). A table inside the network's own graph (Gather before, ScatterND after) would change
the graph that was verified. So the network's graph stays as it is, and the states are moved beside it: by the project's
own kernels, from and to a table (`kernel/kernel_states`), or, where onnxruntime runs the network, by a second, small
graph (`runtime/device_states`), one more run of three nodes a state tensor before each of the network's. On the host
stay the steps that go in, the outputs that somebody asked for, and two arrays of indices; h and c never leave the
device unless a request wants them or brought them.

Rules of this file: as in `lanes`, of which it changes only where states are. It runs on any device and is tested on the
CPU against `lanes` bit for bit; it is used on CUDA, and there only after `lane_proof` has held it against the golden
cases.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..runtime.bound_graph import BoundRuns, to_host
from ..runtime.runtime import DeviceRuntime, Runtime
from .lanes import LaneTable
from .request import Lane
from .work import Answer


def lane_table(runtime: Runtime, max_lanes: int, *, on_device: bool) -> LaneTable:
    """Return lanes with their states on the device, or on the host."""
    if on_device and isinstance(runtime, DeviceRuntime) and runtime.signature.state:
        return DeviceLaneTable(runtime, max_lanes)
    return LaneTable(runtime, max_lanes)


class DeviceLaneTable(LaneTable):
    """The lanes of one model, their states on its device.

    Args:
        runtime: of the model, which carries states.
        max_lanes: as in `LaneTable`.
    """

    def __init__(self, runtime: DeviceRuntime, max_lanes: int) -> None:
        super().__init__(runtime, max_lanes)
        self._states = []  # none on the host
        specs = {spec.name: spec for spec in runtime.signature.inputs}
        self._graph: BoundRuns = runtime.bound()
        self._outputs = {pair.output for pair in runtime.signature.state}
        tensors = [(specs[pair.input], pair.output) for pair in runtime.signature.state]
        self._places = runtime.states(tensors, max_lanes)

    def _put(self, lane: Lane, given: Sequence[Array | None]) -> None:
        self._places.put(lane.slot, given, lane.row)

    def _new_slot(self) -> int:
        slot = super()._new_slot()
        self._places.grow(self._slots)
        return slot

    def _run(self, feeds: dict[str, Array], lanes: Sequence[Lane], ended: int) -> Answer:
        states = self._places.take(np.array([lane.slot for lane in lanes]))
        wanted = {
            name
            for place, lane in enumerate(lanes)
            for name in lane.request.work.outputs
            if name in self._over_time or place < ended
        }
        found, left = self._graph.run(feeds, states, wanted - self._outputs)
        kept = {name: left[name] for name in self._outputs}
        self._places.returned(kept, len(lanes))
        return {**found, **{name: to_host(kept[name]) for name in wanted & self._outputs}}

    def _wait(self) -> None:
        self._graph.wait()

    def _keep(self, slots: NDArray[np.int64], outputs: Answer, ended: int) -> None:  # noqa: ARG002
        self._places.keep(slots, ended)
