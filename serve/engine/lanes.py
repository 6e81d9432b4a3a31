"""Lanes: sequences that advance side by side, each with its state, over arrays that are made once.

Rules of this file: it packs rows, runs, and unpacks; it decides nothing (`plan` does) and knows no queue.
Every array that a run reads lives as long as the engine; only the runtime's outputs are new. Padding holds whatever
an earlier run left there: a graph never lets padded steps touch an output or a state, which verification proves.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...bundle.axes import fewer_steps, over_time
from ...bundle.manifest import TensorSpec
from ..arrays import Array
from ..runtime.runtime import Runtime
from .request import ZERO_SLOT, Lane
from .state_slots import StateSlots
from .work import Answer


class LaneTable:
    """The lanes of one model: their states and the buffers of its runs.

    Args:
        runtime: of the model.
        max_lanes: most rows of a run. More may be on their way: those that stepped aside keep their states.
    """

    def __init__(self, runtime: Runtime, max_lanes: int) -> None:
        signature = runtime.signature
        specs = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
        self._runtime = runtime
        self._signature = signature
        self._sequence = specs[signature.sequence]
        self._sequence_buffer = _Buffer(self._sequence)
        self._lengths = np.empty(max_lanes, dtype=np.int32)
        self._states = [StateSlots(specs[pair.input], pair.output, max_lanes) for pair in signature.state]
        self._slots = max_lanes
        self._free_slots = list(range(max_lanes, ZERO_SLOT, -1))
        self._over_time = {spec.name for spec in signature.outputs if over_time(spec.shape)}
        self._fewer_steps = fewer_steps(signature.outputs[0].shape)  # those of y
        self._row_axis = {
            spec.name: spec.shape.index("B") for spec in signature.outputs if spec.name not in self._over_time
        }

    @property
    def used_slots(self) -> int:
        """Slots that hold a state."""
        return self._slots - len(self._free_slots)

    def begin(self, lane: Lane) -> None:
        """Give a lane that has not moved the state that its request brought, if any."""
        given = lane.request.work.states if lane.slot == ZERO_SLOT and lane.position == 0 else ()
        for state in given:
            if state is not None:
                break
        else:
            return
        lane.slot = self._new_slot()
        self._put(lane, given)

    def release(self, lane: Lane) -> None:
        """Take the lane's slot back."""
        if lane.slot != ZERO_SLOT:
            self._free_slots.append(lane.slot)
            lane.slot = ZERO_SLOT

    def _new_slot(self) -> int:
        if not self._free_slots:
            for state in self._states:
                state.grow(2 * self._slots)
            self._free_slots = list(range(2 * self._slots, self._slots, -1))
            self._slots *= 2
        return self._free_slots.pop()

    def advance(self, lanes: Sequence[Lane], steps: int) -> int:
        """Run lanes by at most so many steps; fill in the answers of those that end.

        Args:
            lanes: ascending by remaining steps.
            steps: at most the last one's remaining steps.

        Returns:
            How many ended: they are the first ones.

        Raises:
            EngineError: the runtime refused; no lane has moved.
        """
        ended = self._pack(lanes, steps)
        feeds: dict[str, Array] = {self._signature.sequence: self._rows(lanes, steps)}
        if self._signature.lengths is not None:
            feeds[self._signature.lengths] = self._lengths[: len(lanes)]
        outputs = self._run(feeds, lanes, ended)
        self._keep_states(lanes, ended, outputs)
        self._wait()
        self._fill_answers(lanes, ended, steps, outputs)
        return ended

    def _pack(self, lanes: Sequence[Lane], steps: int) -> int:
        """Write the lengths; return how many lanes end."""
        lengths = self._lengths
        lengths[: len(lanes)] = steps
        for place, lane in enumerate(lanes):
            if lane.remaining > steps:
                return place
            lengths[place] = lane.remaining
        return len(lanes)

    def _rows(self, lanes: Sequence[Lane], steps: int) -> Array:
        if len(lanes) == 1:  # nothing to copy
            lane = lanes[0]
            return lane.source[None, lane.position : lane.position + steps]
        packed = self._sequence_buffer.view(len(lanes), steps)
        shorter = 0
        for row, lane in zip(packed, lanes, strict=True):
            source, remaining = lane.source, lane.remaining
            if remaining >= steps:  # and so have all that follow
                break
            if len(source) != remaining:
                source = source[lane.position : lane.position + remaining]
            row[:remaining] = source
            shorter += 1
        full = [lane.source[lane.position : lane.position + steps] for lane in lanes[shorter:]]
        np.concatenate(full, out=packed[shorter:].reshape(-1, *packed.shape[2:]))
        return packed

    def _keep_states(self, lanes: Sequence[Lane], ended: int, outputs: Answer) -> None:
        going_on = lanes[ended:]
        if not going_on:
            return
        for lane in going_on:
            if lane.slot == ZERO_SLOT:
                lane.slot = self._new_slot()
        self._keep(np.array([lane.slot for lane in going_on]), outputs, ended)

    # Where states are kept: on the host; `device_lanes` keeps them elsewhere.

    def _put(self, lane: Lane, given: Sequence[Array | None]) -> None:
        for slots, state in zip(self._states, given, strict=True):
            slots.put(lane.slot, state, lane.row)

    def _run(self, feeds: dict[str, Array], lanes: Sequence[Lane], ended: int) -> Answer:  # noqa: ARG002
        slots = [lane.slot for lane in lanes]
        if any(slots):
            places = np.array(slots)
            for state in self._states:
                feeds[state.input] = state.take(places)
        else:  # all begin, and from zero
            for state in self._states:
                feeds[state.input] = state.zeros(len(slots))
        return self._runtime.run(feeds)

    def _wait(self) -> None:
        """Wait until the outputs have their values; here they have."""

    def _keep(self, slots: NDArray[np.int64], outputs: Answer, ended: int) -> None:
        for state in self._states:
            state.keep(slots, outputs[state.output], ended)

    def _fill_answers(self, lanes: Sequence[Lane], ended: int, steps: int, outputs: Answer) -> None:
        if self._over_time:
            for place, lane in enumerate(lanes):
                for name in lane.request.work.outputs:
                    if name in self._over_time:
                        self._fill_steps(lane, name, place, steps, outputs[name])
        row_axis = self._row_axis
        for place, lane in enumerate(lanes[:ended]):
            request = lane.request
            request.rows_left -= 1
            for name in request.work.outputs:
                if name in row_axis:
                    if request.rows == 1 and row_axis[name] == 0:
                        request.answer[name] = outputs[name][place : place + 1]
                    else:
                        self._fill_row(lane, name, place, outputs[name])
        for lane in lanes:
            lane.position += steps
            lane.remaining -= steps

    def _fill_row(self, lane: Lane, name: str, place: int, found: Array) -> None:
        request, axis = lane.request, self._row_axis[name]
        part = found.take((place,), axis=axis)
        if request.rows == 1:
            request.answer[name] = part
            return
        whole = request.answer.get(name)
        if whole is None:
            shape = (*found.shape[:axis], request.rows, *found.shape[axis + 1 :])
            whole = request.answer[name] = np.empty(shape, dtype=found.dtype)
        whole[(slice(None),) * axis + (lane.row,)] = part.squeeze(axis)

    def _fill_steps(self, lane: Lane, name: str, place: int, steps: int, found: Array) -> None:
        request, work = lane.request, lane.request.work
        whole = request.answer.get(name)
        count, of_all = min(steps, lane.remaining), work.steps
        if self._fewer_steps is not None:  # of a network that runs whole, from its first step
            count, of_all = self._fewer_steps.size(count), self._fewer_steps.size(of_all)
        if whole is None:  # zero at and after a row's length
            whole = request.answer[name] = np.zeros((work.rows, of_all, *found.shape[2:]), dtype=found.dtype)
        whole[lane.row, lane.position : lane.position + count] = found[place, :count]


class _Buffer:
    """The packed sequences of a run: one allocation that grows to the largest run and stays."""

    def __init__(self, spec: TensorSpec) -> None:
        self._inner = tuple(axis for axis in spec.shape[2:] if isinstance(axis, int))
        self._width = math.prod(self._inner)
        self._flat = np.zeros(0, dtype=spec.dtype)

    def view(self, rows: int, steps: int) -> Array:
        """Return [rows, steps, ...] at the buffer's start; its values are of earlier runs, or zero."""
        size = rows * steps * self._width
        if size > len(self._flat):
            self._flat = np.zeros(max(size, 2 * len(self._flat)), dtype=self._flat.dtype)
        return self._flat[:size].reshape(rows, steps, *self._inner)
