"""Whether lanes that keep their states on the device reproduce a bundle's golden cases there, before they serve.

Rules of this file: it compares nothing itself (`golden_check` does); what it finds is data, and the caller decides.
"""

import logging
from operator import attrgetter

import numpy as np

from ...bundle.reader import Bundle
from ..arrays import Array, Arrays
from ..runtime.golden_check import check_golden
from ..runtime.runtime import DeviceRuntime, Runtime
from ..runtime.wrapped_runtime import WrappedRuntime
from ..start_errors import ServerStartError
from .device_lanes import DeviceLaneTable
from .lanes import LaneTable
from .request import Request
from .work import Work

_STEPS = 3  # of a run: sequences of the golden cases are cut often, and their lanes end one after the other
_SLOTS = 2  # fewer than the rows of a case, so that the table grows on the way

logger = logging.getLogger("cellgate.serve")


def keeps_states_on_device(runtime: Runtime, bundle: Bundle) -> bool:
    """Whether to keep the states of lanes on the device: on CUDA, where the golden cases come out right that way."""
    if runtime.device != "cuda" or not isinstance(runtime, DeviceRuntime) or not runtime.signature.state:
        return False
    try:
        result = check_golden(LanesAsRuntime(runtime, streamable=bundle.manifest.streamable), bundle)
        doubt = None if result.passed else result.summary()
    except ServerStartError as err:
        doubt = str(err)
    if doubt is not None:
        logger.warning("model %s: states stay on the host, for %s", bundle.manifest.name, doubt)
    return doubt is None


class LanesAsRuntime(WrappedRuntime[DeviceRuntime]):
    """A runtime that runs every batch through lanes with their states on the device, a few steps at a time.

    Args:
        runtime: open.
        streamable: whether a sequence may be cut.
    """

    def __init__(self, runtime: DeviceRuntime, *, streamable: bool) -> None:
        super().__init__(runtime)
        self._table: LaneTable = DeviceLaneTable(runtime, _SLOTS)
        self._streamable = streamable

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """Run every row from its first step to its last, _SLOTS rows at a time."""
        signature = self.signature
        sequence = feeds[signature.sequence]
        rows, steps = sequence.shape[:2]
        lengths = np.full(rows, steps, dtype=np.int32) if signature.lengths is None else feeds[signature.lengths]
        outputs = tuple(spec.name for spec in signature.outputs)
        states = tuple(feeds[pair.input] for pair in signature.state)
        work = Work(model="", sequence=sequence, lengths=lengths, states=states, outputs=outputs)
        request = Request(None, work, 0, rows)
        lanes = [request.next_lane() for _ in range(rows)]
        for lane in lanes:
            self._table.begin(lane)
        for first in range(0, rows, _SLOTS):
            left = sorted(lanes[first : first + _SLOTS], key=attrgetter("remaining"))
            while left:
                longest = left[-1].remaining
                ended = self._table.advance(left, min(longest, _STEPS) if self._streamable else longest)
                for lane in left[:ended]:
                    self._table.release(lane)
                left = left[ended:]
        return request.ordered_answer()

    def close(self) -> None:
        """Leave the runtime to its owner."""
