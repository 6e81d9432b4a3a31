"""What the system says of a process of this server: processor time, memory, open files.

Rules of this file: standard library only; a process that is gone, or whose number is another's by now, has no facts.
Source: proc(5).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# Places in /proc/PID/stat, counted from the field after the name, which is the third.
_USER_TICKS, _SYSTEM_TICKS, _START_TICKS, _RSS_PAGES = 11, 12, 19, 21


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process: its number, and when it started (in the system's ticks since boot), for numbers are used again."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessFacts:
    """A living process.

    Attributes:
        cpu_s: seconds of processor time that it has used.
        rss_bytes: memory that it holds.
        open_files: numbers of files in use.
    """

    cpu_s: float
    rss_bytes: int
    open_files: int


def this_process() -> ProcessId:
    """Return who this is; the start is 0 where the system does not say it."""
    pid = os.getpid()
    with suppress(OSError, ValueError, IndexError):
        return ProcessId(pid, int(_stat(pid)[_START_TICKS]))
    return ProcessId(pid, 0)


def process_facts(process: ProcessId) -> ProcessFacts | None:
    """Return what the system says of a process; None where it is gone or the system says nothing."""
    try:
        found = _stat(process.pid)
        if int(found[_START_TICKS]) != process.start_ticks:
            return None
        return ProcessFacts(
            cpu_s=(int(found[_USER_TICKS]) + int(found[_SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK"),
            rss_bytes=int(found[_RSS_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
            open_files=sum(1 for _ in _entries(_PROC / str(process.pid) / "fd")),
        )
    except (OSError, ValueError, IndexError):
        return None


def _stat(pid: int) -> list[str]:
    # The name stands in brackets and may hold anything, brackets and blanks included.
    return (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        yield from found
