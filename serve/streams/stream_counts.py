"""Counts of streams, as the statistics show them.

Rules of this file: counting only.
"""

from collections.abc import Iterable
from typing import Any, Final

from .cache import RecordCache
from .record import REASONS, StreamRecord
from .store import Usage

TAKEN_OVER: Final = "taken_over"


class StreamCounts:
    """What has happened to the streams of each model since the start.

    Args:
        models: names.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self._ended: dict[str, dict[str, int]] = {}
        self._replayed: dict[str, int] = {}
        for model in models:
            self.add(model)

    def add(self, model: str) -> None:
        """Count for another model, unless it is known."""
        if model not in self._ended:
            self._ended[model] = dict.fromkeys((*REASONS, TAKEN_OVER), 0)
            self._replayed[model] = 0

    def ended(self, model: str, reason: str, count: int = 1) -> None:
        """Count streams that have ended; one of a model that is served no more is not counted."""
        if model in self._ended:
            self._ended[model][reason] += count

    def committed(self, model: str, before: StreamRecord | None, after: StreamRecord) -> None:
        """Count the streams that ended with a record that is written now: its own, or the one that was there."""
        if after.ended is not None:
            self.ended(model, after.ended)
        if after.step == 0 and after.ended is None and before is not None and before.ended is None:
            self.ended(model, TAKEN_OVER)

    def replayed(self, model: str) -> None:
        """Count a request that had been applied before."""
        self._replayed[model] += 1

    def statistics(self, usage: Usage | None, cache: RecordCache) -> dict[str, Any]:
        """Return the counts by model; where the store does not count, those that this server knows."""
        known = cache.usage() if usage is None else {}
        found = {}
        for model, ended in self._ended.items():
            if usage is None:
                live, state_bytes = known.get(model, (0, 0))
            else:
                live, state_bytes = usage.live.get(model, 0), usage.state_bytes.get(model, 0)
            found[model] = {
                "live": live,
                "state_bytes": state_bytes,
                "ended": dict(ended),
                "replayed": self._replayed[model],
            }
        return found
