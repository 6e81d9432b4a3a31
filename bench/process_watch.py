"""The memory and the CPU time of a server's processes while something happens to it."""

import time
from typing import Any, Final

from served import Server, cpu_s, resident_mib

SETTLE_S: Final = 5.0  # before growth counts


class Watch:
    """The memory and the CPU time of every process of a server while something happens."""

    def __init__(self, server: Server) -> None:
        self._roles = server.pids
        self._begun = {pid: cpu_s(pid) for pid in self._roles}
        self.before = self._read()
        self.settled: dict[int, float] = {}
        self.most = dict(self.before)
        self._begin_s = time.monotonic()

    def look(self) -> None:
        """Read once."""
        now = self._read()
        self.most = {pid: max(self.most[pid], now[pid]) for pid in now}
        if not self.settled and time.monotonic() - self._begin_s >= SETTLE_S:
            self.settled = dict(now)

    def rows(self) -> list[dict[str, Any]]:
        """Return what was seen of each process."""
        after, span_s = self._read(), time.monotonic() - self._begin_s
        settled = self.settled or self.before
        return [
            {
                "process": f"{role} {pid}",
                "before_mib": self.before[pid],
                "most_mib": self.most[pid],
                "after_mib": after[pid],
                "growth_mib": self.most[pid] - settled[pid],
                "cpu_share": (cpu_s(pid) - self._begun[pid]) / span_s,
            }
            for pid, role in self._roles.items()
        ]

    def _read(self) -> dict[int, float]:
        return {pid: resident_mib(pid) for pid in self._roles}
