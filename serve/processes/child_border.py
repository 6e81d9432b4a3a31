"""What a child has of its supervisor: its configuration, where to report, and the lifeline.

    stdin    the configuration (`config_line`); then nothing, and its end means that the supervisor is gone
    stdout   JSON lines, the reports: {"opening": ...}, {"ready": ...}, {"listening": true}, {"models": ...} whenever
             these have changed, or why it could not start; of a trial see `trial_child`

Rules of this file: no work of its own. The supervisor's side of both pipes is `child_process`.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ..models.repository import Repository
from ..models.served_model import BundlePlace
from ..settings import Settings
from .config_line import config_of_line
from .error_words import start_error_to_report

STARTED: Final = 0
CANNOT_START: Final = 2


class ChildBorder:
    """Both pipes to the supervisor.

    Args:
        lifeline: file to read the configuration from, and then nothing.
        reports: file to write reports to.
    """

    def __init__(self, lifeline: int, reports: int) -> None:
        self.lifeline = lifeline
        self._reports = reports

    @classmethod
    def of_this_process(cls) -> "ChildBorder":
        """Take stdin and stdout; what libraries may print from now on goes to stderr, and breaks no report."""
        sys.stdout.flush()
        reports = os.dup(1)
        os.dup2(2, 1)
        return cls(0, reports)

    def read_config(self) -> dict[str, Any]:
        """Return the configuration.

        Raises:
            EOFError: the supervisor went away before it had sent it all.
        """
        line = b""
        while not line.endswith(b"\n"):
            chunk = os.read(self.lifeline, 2**16)
            if not chunk:
                raise EOFError
            line += chunk
        config: dict[str, Any] = config_of_line(line)
        return config

    def report(self, value: Any) -> None:
        """Tell the supervisor."""
        data = memoryview(json.dumps(value).encode() + b"\n")
        while data:
            data = data[os.write(self._reports, data) :]


def child_main(serve: Callable[[ChildBorder, dict[str, Any]], None]) -> int:
    """Run this process as a child; return its exit status, as `run_child`.

    SIGINT, which a terminal sends to all, is the supervisor's to judge; SIGHUP means new keys, and so nothing to a
    child that has not asked for it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return run_child(ChildBorder.of_this_process(), serve)


def run_child(border: ChildBorder, serve: Callable[[ChildBorder, dict[str, Any]], None]) -> int:
    """Run a child's work with its configuration.

    Returns:
        The exit status: 0, or 2 where it could not start, which is reported in one sentence.
    """
    try:
        serve(border, border.read_config())
    except (EOFError, BrokenPipeError):  # the supervisor is gone: there is nobody to tell
        return CANNOT_START
    except Exception as err:  # noqa: BLE001 - the supervisor says it, as its own error
        border.report(start_error_to_report(err))
        return CANNOT_START
    return STARTED


def places_of(config: dict[str, Any]) -> list[tuple[BundlePlace, bool]]:
    """Return the bundles to serve, and of each whether it is current: those served so far, or the command line's."""
    if config.get("hello") is None:
        return [(BundlePlace(Path(path), name), True) for path, name in config["places"]]
    return [
        (BundlePlace(Path(entry["path"]), entry["name"], entry["digest"]), entry["is_current"])
        for entry in config["hello"]["models"]
    ]


def repository_of(config: dict[str, Any], settings: Settings) -> Repository:
    """Return where bundles may be loaded from: the places of the command line, and the folder of the settings."""
    places = [BundlePlace(Path(path), name) for path, name in config["places"]]
    return Repository(places, None if settings.repository is None else Path(settings.repository))


def settings_of(config: dict[str, Any]) -> Settings:
    """Return the settings of a configuration."""
    return Settings(**config["settings"])
