"""Lanes whose states stay on the device between runs.

What was weighed. Fixed places (a lane is a row for its whole life) need no moving about, but then a run has a row for
every lane, also for those that the planner leaves out, and a row cannot stand still: at length 0 onnxruntime returns a
zero state (`serve/input_check`). A table inside the network's own graph (Gather before, ScatterND after) would change
the graph that was verified. So the network's graph stays as it is, and a second, small one moves the states
(`state_graph`): one more run of three nodes a state tensor before each run of the network, over a table that is small
beside the weights. On the host stay the steps that go in, the outputs that somebody asked for, and two arrays of
indices; h and c never leave the device unless a request wants them or brought them.

Rules of this file: as in `lanes`, of which it changes only where states are. It runs on any device and is tested on the
CPU against `lanes` bit for bit; it is used on CUDA, and there only after `lane_proof` has held it against the golden
cases.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...bundle.manifest import TensorSpec
from ..arrays import Array
from ..runtime.bound_graph import BoundRuns, DeviceTensor, to_host
from ..runtime.runtime import DeviceRuntime, Runtime
from .lanes import LaneTable
from .request import Lane
from .state_graph import state_graph
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
        self._places = DeviceStates(runtime.open_beside(state_graph([spec for spec, _ in tensors])), tensors, max_lanes)

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

    def _keep(self, slots: NDArray[np.int64], outputs: Answer, ended: int) -> None:  # noqa: ARG002
        self._places.keep(slots, ended)


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
