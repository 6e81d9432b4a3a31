"""A trial: a bundle is opened, proved and measured in a process of its own, before an engine that serves opens it.

A runtime can die of a bundle: it aborts, runs out of its stack or of memory, or never returns. Nothing in its process
can catch that; so another process goes first, and its death is a sentence for whoever asked.

Rules of this file: one trial, one process. It waits on a thread that has nothing else to do; `stop` may be called by
any thread. However a trial ends, its process has ended before.
"""

import os
import select
import threading
import time
from dataclasses import asdict
from typing import Any, Final

from ..engine.measured import Measured, measured_from
from ..engine.models import max_rows_of
from ..errors import LoadRefused, NotReady
from ..models.served_model import BundlePlace
from ..settings import Settings
from .child_process import ChildProcess
from .error_words import how_it_died, start_error_from_report

TRIAL: Final = "cellgate.serve.processes.trial_child"
_BEFORE_ALL: Final = "it was read"


class Trial:
    """The trial of one bundle.

    Args:
        settings: of the server; its `trial_limit_s` is how long the process may take in all.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._is_stopped = False
        self._doing = _BEFORE_ALL
        self._verdict: dict[str, Any] | None = None

    def prove(self, place: BundlePlace) -> Measured | None:
        """Try a bundle; return if the process survived it and found nothing wrong. To be called once.

        Args:
            place: of the bundle, with its digest, so that what was tried is what is opened afterwards.

        Returns:
            What was measured, for whoever opens the same bundle under the same settings; None: it is for nobody else.

        Raises:
            BundleError, ServerStartError: as `open_engine_model` in the process.
            LoadRefused: the process died, took too long, or could not be started.
            NotReady: the trial was stopped.
        """
        ends_s = time.monotonic() + self._settings.trial_limit_s
        child = self._start(place)
        has_ended = False
        try:
            has_ended = self._listen(child, ends_s)
        finally:
            if not has_ended:
                child.kill()
            status = child.reap()
        figures = self._judge(place, status, is_late=not has_ended)
        return measured_from(figures, max_rows_of(self._settings))

    def stop(self) -> None:
        """End the trial, or let it not begin. Stopping twice is fine."""
        with self._lock:
            self._is_stopped = True
            if self._child is not None:
                self._child.kill()

    def _start(self, place: BundlePlace) -> ChildProcess:
        config = {"place": [os.fspath(place.path), place.name, place.digest], "settings": asdict(self._settings)}
        with self._lock:
            if self._is_stopped:
                raise NotReady
            try:
                self._child = ChildProcess(TRIAL, config, ())
            except OSError as err:
                raise _refusal(place, "a process to try it in", str(err)) from err
            return self._child

    def _listen(self, child: ChildProcess, ends_s: float) -> bool:
        """Hear what the process says until it has ended or done all; return whether that was in time."""
        poll = select.poll()
        poll.register(child.reports, select.POLLIN)
        while (left_s := ends_s - time.monotonic()) > 0 and poll.poll(1e3 * left_s):
            reports = child.read_reports()
            if reports is None:
                return True
            for report in reports:
                self._doing = report.get("doing", self._doing)
                if "survived" in report or "error" in report:
                    self._verdict = report
                    return True  # what the runtime does at an interpreter's end is nobody's matter
        return False

    def _judge(self, place: BundlePlace, status: int, *, is_late: bool) -> dict[str, Any] | None:
        if self._is_stopped:
            raise NotReady
        if self._verdict is None:
            limit_s = self._settings.trial_limit_s
            found = (
                f"that it was not over in {limit_s:g} s (--trial-limit-s), and was ended while {self._doing}"
                if is_late
                else f"that this process died by {how_it_died(status)} while {self._doing}"
            )
            raise _refusal(place, "its trial, in a process of its own, to go well", found)
        if "error" in self._verdict:
            raise start_error_from_report(self._verdict)
        figures: dict[str, Any] | None = self._verdict["survived"]
        return figures


def _refusal(place: BundlePlace, expected: str, found: str) -> LoadRefused:
    remedy = f"nothing was changed; look at it with: cellgate verify {place.path}"
    return LoadRefused(f"bundle {place.path}", expected, found, remedy)
