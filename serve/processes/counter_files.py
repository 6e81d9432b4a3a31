"""The counters' pages as the supervisor keeps them: a file in memory for each of its processes, inherited by all.

Rules of this file: a page belongs to a place (`slot`), not to a process, so that whoever fills the place goes on
counting. Only numbers of files cross to the children.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..observe.counter_layout import SPARE_MODELS, CounterFamily, CounterLayout
from ..observe.counter_page import CounterPage, Counters, make_page_file, read_page
from ..start_errors import ServerStartError

_SUPERVISOR = "supervisor"


class CounterFiles:
    """The pages of a server.

    Args:
        names: of the supervisor's places; each process's page bears its place's name.

    Raises:
        ServerStartError: the system has no memory or no number left for a page.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._files: dict[str, int] = {}
        try:
            for name in (_SUPERVISOR, *names):
                self._files[name] = make_page_file(name)
            self._own = CounterPage(CounterLayout(), self._files[_SUPERVISOR])
        except OSError as err:
            self.close()
            raise ServerStartError(f"counters: expected a page of memory for each process, found: {err}") from err

    @property
    def files(self) -> tuple[int, ...]:
        """Numbers of the files that every child inherits."""
        return tuple(self._files.values())

    def config(self, name: str, models: Sequence[str] | None = None) -> dict[str, Any]:
        """Return what a child needs to know.

        Args:
            name: of the child's place, and so of its own page.
            models: that were served at the start, which the pages are made for; None: the child knows them first.
        """
        return {"own": name, "files": self._files, "models": models}

    def add(self, family: CounterFamily) -> None:
        """Count something of the supervisor's own."""
        self._own.cells[self._own.layout.place(family)] += 1

    def read(self, name: str, family: CounterFamily) -> float | None:
        """Return a number of another process's page, of a family of the head; None: nobody has written there yet.

        Args:
            name: of the process's place.
            family: of `HEAD`.
        """
        values = read_page(self._files[name], self._own.layout).values
        return values[self._own.layout.place(family)] if values else None

    def close(self) -> None:
        """Give the files back. Closing twice is fine."""
        files, self._files = self._files, {}
        for file in files.values():
            os.close(file)


def counters_of(config: Mapping[str, Any], names: Sequence[str]) -> Counters:
    """Return a child's counters.

    Args:
        config: of the child; without counters (a child that a test starts by hand) it counts for itself.
        names: of all models that were ever served, in the order in which they came.
    """
    found = config.get("counters")
    first = names if found is None or found.get("models") is None else found["models"]
    layout = CounterLayout(first, SPARE_MODELS)
    for name in names:
        layout.add(name)
    if found is None:
        return Counters(CounterPage(layout))
    return Counters(CounterPage(layout, found["files"][found["own"]]), found["files"])
