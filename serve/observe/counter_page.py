"""Pages of counters in memory that processes share: one page for each process, summed by whoever asks.

    header   fingerprint of the layout, number of the process, when it started, unused
    cells    float64, as `counter_layout` says

A page is a file that lives in memory only and has no name (memfd): nothing is left on any disk, a disk that is full or
slow stops nobody, and no other user can open it. The supervisor makes the files and every child inherits them, so a
page outlives the process that writes it, and the next one in its place goes on counting.

Rules of this file: standard library only. A page has one writer, or one for each cell; then no lock is needed, for a
float64 that lies on 8 bytes is read and written whole. Nothing here waits.
"""

import mmap
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from .counter_layout import HEAD_CELLS, CounterFamily, CounterLayout
from .process_facts import ProcessId, this_process

_HEADER: Final = 4
_ITEM_BYTES: Final = 8


def make_page_file(name: str) -> int:
    """Return the number of a new file in memory, empty.

    Args:
        name: for people who look into /proc.

    Raises:
        OSError: there is no memory or no number left.
    """
    return os.memfd_create(f"cellgate-{name}")


class CounterPage:
    """A page that this process writes to.

    Args:
        layout: of its cells.
        file: of `make_page_file`; None: a page of this process alone.

    Attributes:
        layout: of its cells.
        cells: to be added to, `page.cells[place] += 1`, at places of the layout.
    """

    def __init__(self, layout: CounterLayout, file: int | None = None) -> None:
        size = (_HEADER + layout.cells) * _ITEM_BYTES
        if file is None:
            memory = mmap.mmap(-1, size)
        else:
            # Taken from the system now: a later write to a page that cannot be had would end the process.
            os.posix_fallocate(file, 0, size)
            memory = mmap.mmap(file, size)
        whole = memoryview(memory).cast("d")
        self.layout = layout
        self.cells = whole[_HEADER:]
        if whole[0] != layout.fingerprint:  # new, or of other models
            for place in range(len(whole)):
                whole[place] = 0.0
        self._process = me = this_process()
        whole[0], whole[1], whole[2] = layout.fingerprint, me.pid, me.start_ticks

    def read(self) -> "PageReading":
        """Return what it holds now."""
        return PageReading(self._process, self.cells.tolist())


@dataclass(frozen=True, slots=True)
class PageReading:
    """What a page held at a moment.

    Attributes:
        process: that writes it, or wrote it before it died; None: nobody has yet.
        values: of its cells; empty where they are of another layout.
    """

    process: ProcessId | None
    values: Sequence[float]


def read_page(file: int, layout: CounterLayout) -> PageReading:
    """Read another process's page.

    Args:
        file: of `make_page_file`.
        layout: of the reader. Of a page with another layout the head alone is read, which all have in common.
    """
    size = os.fstat(file).st_size
    if size < (_HEADER + HEAD_CELLS) * _ITEM_BYTES:
        return PageReading(None, [])
    with (
        closing(mmap.mmap(file, size, access=mmap.ACCESS_READ)) as memory,
        memoryview(memory) as view,
        view.cast("d") as whole,
    ):
        found = whole.tolist()
    fingerprint, pid, start_ticks, _ = found[:_HEADER]
    count = layout.cells if fingerprint == layout.fingerprint else HEAD_CELLS
    return PageReading(ProcessId(int(pid), int(start_ticks)), found[_HEADER : _HEADER + count])


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterReading:
    """All pages of a server, summed.

    Attributes:
        layout: of the values.
        values: one for each cell.
        processes: who writes the pages, by name.
    """

    layout: CounterLayout
    values: list[float]
    processes: Mapping[str, ProcessId] = field(default_factory=dict)

    def value(self, family: CounterFamily, *labels: int) -> float:
        """Return a plain number."""
        return self.values[self.layout.place(family, *labels)]

    def histogram(self, family: CounterFamily, *labels: int) -> tuple[list[float], float]:
        """Return how many fell under each bound and above the one before, at last above all, and the sum."""
        start = self.layout.place(family, *labels)
        *counts, total = self.values[start : start + family.cells]
        return counts, total


class Counters:
    """A process's own page, and the way to read everybody's.

    Args:
        own: written here.
        files: pages of all processes by name, the own one included; none: there is only the own one.
        name: of this process, where there are no files.
    """

    def __init__(self, own: CounterPage, files: Mapping[str, int] | None = None, name: str = "server") -> None:
        self.own = own
        self._files = files or {}
        self._name = name

    @classmethod
    def alone(cls, models: Sequence[str]) -> "Counters":
        """Return the counters of a server that is one process."""
        return cls(CounterPage(CounterLayout(models)))

    def read(self) -> CounterReading:
        """Sum all pages. A page that is being written is read as it is: each number is whole."""
        layout = self.own.layout
        readings = {name: read_page(file, layout) for name, file in self._files.items()} or {
            self._name: self.own.read()
        }
        values = [0.0] * layout.cells
        for reading in readings.values():
            for place, value in enumerate(reading.values):
                values[place] += value
        processes = {name: reading.process for name, reading in readings.items() if reading.process is not None}
        return CounterReading(layout=layout, values=values, processes=processes)
