"""Where text goes: the answer to stdout, everything else to stderr.

Rules of this file: stdout holds the answer once, for people or, with --json, as one JSON document; progress, notes and
warnings are stderr's. Text that comes from files is made printable, for a file may hold a terminal's commands.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .interruption import INTERRUPTION

ReportProgress = Callable[[str, int, int], None]

_PLAIN_WIDTH: Final = 160  # columns of a stdout that is no terminal; nothing is cut there, only folded
_SHORT: Final = 8  # as many steps are told one by one where there is no bar


class _Console(Console):
    """rich's, which leaves a closed pipe to the command line: the exit status is said in one place."""

    def on_broken_pipe(self) -> None:
        """Let the error that is being handled go on."""
        raise BrokenPipeError


class Terminal:
    """stdout and stderr of one command.

    Args:
        json: whether the answer is for machines.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self._stdout = sys.stdout  # kept: user code that prints is sent to stderr meanwhile
        width = None if sys.stdout.isatty() else _PLAIN_WIDTH
        self._out = _Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
        self._err = _Console(file=sys.stderr, markup=False, highlight=False, emoji=False)

    def say(self, line: str = "") -> None:
        """Print a line of the answer for people."""
        if not self.json:
            self._out.print(Text(printable(line)), soft_wrap=True)

    def pairs(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print "name  value" lines, the names aligned."""
        kept = [(printable(name), printable(value)) for name, value in rows]
        width = max((len(name) for name, _ in kept), default=0)
        for name, value in kept:
            self.say(f"{name:<{width}}  {value}")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table; numbers stand at the right."""
        if self.json:
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        lines = [list(row) for row in rows]
        for place, name in enumerate(columns):
            is_number = bool(lines) and all(isinstance(line[place], int | float) for line in lines)
            table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
        for line in lines:
            table.add_row(*(Text(printable(_shown(cell))) for cell in line))
        self._out.print(table)

    def answer(self, document: Any) -> None:
        """Print the answer for machines, if they asked: one JSON document; what JSON cannot say is text ("inf")."""
        if self.json:
            json.dump(finite(document), self._stdout, allow_nan=False)
            self._stdout.write("\n")

    def note(self, line: str) -> None:
        """Print a line beside the answer."""
        self._err.print(Text(f"cellgate: {printable(line)}"), soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print a warning beside the answer."""
        self._err.print(Text(f"cellgate: warning: {printable(line)}", style="bold yellow"), soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[ReportProgress]:
        """Give a function (what, done, total) that shows progress: a bar on a terminal, a few plain lines elsewhere.

        Where Ctrl-C was pressed and nobody heard, it raises KeyboardInterrupt.
        """
        if not self._err.is_terminal:
            yield _interruptible(_PlainProgress(self.note))
            return
        columns = (
            SpinnerColumn(),
            BarColumn(30),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        with Progress(*columns, console=self._err, transient=True) as bars:
            bar = bars.add_task("starting", total=1)
            yield _interruptible(
                lambda what, done, total: bars.update(bar, description=what, completed=done, total=total)
            )


class _PlainProgress:
    """A line for each step of a short row of steps, and four or five for a long one; none for a step's mere end."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._total = 0
        self._due = 0
        self._told = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if total != self._total:
            self._total, self._due, self._told = total, 0, ""
        if done >= self._due and what != self._told:
            self._told = what
            self._note(f"{what} ({done} of {total})")
            self._due = done + 1 if total <= _SHORT else min(done + math.ceil(total / 4), max(total, done + 1))


def _interruptible(show: ReportProgress) -> ReportProgress:
    def report(what: str, done: int, total: int) -> None:
        INTERRUPTION.check()
        show(what, done, total)

    return report


def printable(text: str) -> str:
    """Return the text with every control character written out, as Python would."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def finite(value: Any) -> Any:
    """Replace what JSON cannot say: infinite numbers and NaN become text, tuples lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def _shown(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
