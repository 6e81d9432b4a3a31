"""What a load saw: one line for each request, written while it runs and read when it is over.

Rules of this file: no I/O and no clock; a line costs about a microsecond and 48 bytes.
"""

from array import array
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

OK: Final = 200
# What no status says; an HTTP status is positive.
LOST: Final = -1  # the connection ended before the answer did
TIMEOUT: Final = -2  # no answer in time
GARBLED: Final = -3  # the answer was no HTTP/1.1 with a Content-Length, or held no state
WORDS: Final = {LOST: "connection lost", TIMEOUT: "no answer in time", GARBLED: "answer not understood"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Columns of N requests, in the order in which they ended. Times are seconds on one monotonic clock.

    Attributes:
        scheduled_s: float64 [N], when the request was due: latency counts from here.
        sent_s: float64 [N], when its bytes were handed over; equal to ended_s for one that was never sent.
        ended_s: float64 [N], when its answer was complete, or when it was given up.
        lengths: int64 [N], steps of the longest row of its sequence.
        steps: int64 [N], time steps that it asked for, of all rows together.
        statuses: int16 [N], HTTP status, or one of LOST, TIMEOUT, GARBLED.
    """

    scheduled_s: NDArray[np.float64]
    sent_s: NDArray[np.float64]
    ended_s: NDArray[np.float64]
    lengths: NDArray[np.int64]
    steps: NDArray[np.int64]
    statuses: NDArray[np.int16]

    def __len__(self) -> int:
        return int(self.statuses.size)

    def where(self, mask: NDArray[Any]) -> "Samples":
        """Return the lines for which the mask, bool [N], is true."""
        return Samples(
            scheduled_s=self.scheduled_s[mask],
            sent_s=self.sent_s[mask],
            ended_s=self.ended_s[mask],
            lengths=self.lengths[mask],
            steps=self.steps[mask],
            statuses=self.statuses[mask],
        )


class Recorder:
    """Collects samples."""

    def __init__(self) -> None:
        self._times = array("d")
        self._counts = array("q")
        self.answers = 0

    def add(self, scheduled_s: float, sent_s: float, ended_s: float, length: int, steps: int, status: int) -> None:
        """Write one line."""
        self._times.extend((scheduled_s, sent_s, ended_s))
        self._counts.extend((length, steps, status))
        if status > 0:
            self.answers += 1

    def samples(self) -> Samples:
        """Return what was written."""
        times = np.array(self._times, dtype=np.float64).reshape(-1, 3)
        counts = np.array(self._counts, dtype=np.int64).reshape(-1, 3)
        return Samples(
            scheduled_s=times[:, 0].copy(),
            sent_s=times[:, 1].copy(),
            ended_s=times[:, 2].copy(),
            lengths=counts[:, 0].copy(),
            steps=counts[:, 1].copy(),
            statuses=counts[:, 2].astype(np.int16),
        )
