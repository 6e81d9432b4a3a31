"""How long streams live, how many there may be, and how many bytes may be kept of them.

Rules of this file: records only.
"""

from dataclasses import dataclass
from typing import Final

from ..settings import Settings

_ELEMENT_BYTES: Final = 8  # of the widest dtype
_GROWTH: Final = 8  # from a body to its tensors; as `processes` have it
# Longest wait for a store before those who wait are told. Under `appendfsync everysec` a Redis that is well takes a
# second for each commit, and a request may wait for the one before its own too.
STORE_LIMIT_S: Final = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamLimits:
    """What is kept of streams.

    Attributes:
        idle_s: a stream that nobody sent anything for so long expires.
        tombstone_s: so long it is known that a stream has ended or expired.
        max_streams: that live.
        max_stream_bytes: of their states and last answers.
        max_waiting: requests that are held or in the engine.
        max_waiting_bytes: of their tensors.
        store_limit_s: longest wait for the store.
        max_record_bytes: of a record that is given out: it goes from process to process in one piece.
    """

    idle_s: float
    tombstone_s: float
    max_streams: int
    max_stream_bytes: int
    max_waiting: int
    max_waiting_bytes: int
    store_limit_s: float = STORE_LIMIT_S
    max_record_bytes: int = 2**26

    @classmethod
    def of(cls, settings: Settings) -> "StreamLimits":
        """Return the limits that a server's settings ask for."""
        return cls(
            idle_s=settings.stream_idle_s,
            tombstone_s=settings.stream_tombstone_s,
            max_streams=settings.max_streams,
            max_stream_bytes=settings.max_stream_bytes,
            max_waiting=settings.max_waiting,
            max_waiting_bytes=settings.max_waiting_bytes,
            max_record_bytes=min(
                _ELEMENT_BYTES * settings.max_answer_elements,
                max(settings.max_waiting_bytes, _GROWTH * settings.max_body_bytes),
            ),
        )

    @property
    def sweep_s(self) -> float:
        """Time between two looks for what is old."""
        return min(60.0, max(1.0, self.idle_s / 10))
