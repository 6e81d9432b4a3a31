"""What a process of the server has to tell its operators, on stderr: text, or one JSON object a line.

Rules of this file: control characters never reach a terminal as they are, for a message may hold what a client sent.
Who has set up logging for the whole program keeps it, and gets the messages there. The access log is `access_log`'s.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from ..settings import LogFormat

SUPERVISOR: Final = "supervisor"
_ACCESS: Final = "cellgate.access"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def escaped(text: str) -> str:
    """Return a text with its control characters written out; tabs and ends of lines, as in a traceback, stay."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def event_head(record: logging.LogRecord, process: str) -> dict[str, str | int | None]:
    """Return what every JSON line begins with, of this log and of the access log: when, how grave, whose; in UTC.

    Args:
        record: of the event.
        process: name of this process.
    """
    return {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "process": process,
        "pid": record.process,
    }


class TextFormat(logging.Formatter):
    """The message, the process before it, and the traceback where there is one.

    Args:
        process: name of this process; the supervisor is the command itself, and its messages name others.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._whose = "" if process == SUPERVISOR else f"{process}: "

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of an event; a message is one line."""
        message = self._whose + escaped(record.getMessage()).replace("\n", "\\n")
        return f"{message}\n{escaped(_traceback(record))}" if record.exc_info else message


class JsonFormat(logging.Formatter):
    """One JSON object a line: time, level, logger, process, message, and what else is known.

    Args:
        process: name of this process.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of an event; the time is in UTC."""
        line = {**event_head(record, self._process), "message": record.getMessage()}
        request_id = getattr(record, "request_id", None)
        if request_id is not None:
            line["request_id"] = request_id
        if record.exc_info:
            line["traceback"] = _traceback(record)
        return json.dumps(line)


@contextmanager
def written_to_stderr(logger: logging.Logger, form: logging.Formatter) -> Iterator[logging.Handler]:
    """Write what a logger is told to stderr while inside; the handler that does may be given filters."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        with suppress(ValueError):  # stderr may be closed by now
            handler.flush()


@contextmanager
def operation_logging(log_format: LogFormat, process: str) -> Iterator[None]:
    """Send what this process tells to stderr while inside.

    Args:
        log_format: "text" leaves a program's own logging alone; "json" comes on top of it, and tells more of the
            processes' lives.
        process: name of this process.
    """
    root, supervisor = logging.getLogger(), logging.getLogger("cellgate.supervisor")
    if log_format == "text" and root.handlers:
        yield
        return
    level = supervisor.level
    with written_to_stderr(root, JsonFormat(process) if log_format == "json" else TextFormat(process)) as handler:
        handler.addFilter(lambda record: record.name != _ACCESS)
        if log_format == "json":
            supervisor.setLevel(logging.INFO)
        try:
            yield
        finally:
            supervisor.setLevel(level)


def _traceback(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)).rstrip() if record.exc_info else ""
