"""From arguments to an exit status: parse, load the command, run it, turn whatever went wrong into one sentence.

Rules of this file: stderr gets exactly one sentence for an error and never a traceback, unless somebody debugs; nothing
heavy is imported before a command is known. What an exit status means is in errors.py.
"""

import errno
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from ..bundle.errors import BundleError
from ..client.errors import ClientError
from ..export.errors import ExportError, NotEquivalentError
from ..serve.errors import EngineError, ServeError
from ..serve.settings import SettingsError
from ..serve.start_errors import GoldenMismatchError
from .errors import CHECK_FAILED, DONE, FAULT, INTERRUPTED, PIPE_CLOSED, WRONG_USE, CommandError
from .extras import load
from .interruption import INTERRUPTION
from .parser import make_parser

# The first class that fits decides: special ones come first.
_STATUSES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (NotEquivalentError, CHECK_FAILED),
    (GoldenMismatchError, CHECK_FAILED),
    (EngineError, FAULT),
    (ExportError, WRONG_USE),
    (BundleError, WRONG_USE),
    (ServeError, WRONG_USE),
    (SettingsError, WRONG_USE),
    (ClientError, WRONG_USE),
)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command.

    Args:
        argv: without the program's name.
        environ: usually os.environ; CELLGATE_DEBUG asks for tracebacks, and `serve` reads its settings from it.

    Returns:
        The exit status: 0 done, 1 the check failed, 2 wrong use or unreadable input, 70 a fault of this program, 130
        interrupted, 141 the reader of stdout went away.
    """
    _take_streams()
    debug = "--debug" in argv or environ.get("CELLGATE_DEBUG", "") not in ("", "0")
    try:
        with INTERRUPTION.watched():
            status = _dispatch(argv, environ)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return PIPE_CLOSED
    except Exception as err:  # noqa: BLE001 - the last border: people get a sentence, not a traceback
        if debug:
            traceback.print_exc()
        if INTERRUPTION.came:
            return INTERRUPTED
        status, sentence = explain(err)
        sys.stderr.write(f"cellgate: {sentence}\n")
    return status


def explain(err: Exception) -> tuple[int, str]:
    """Return the exit status of an error and its one sentence."""
    text = " ".join(str(err).split())
    if isinstance(err, CommandError):
        return err.status, text
    for kind, status in _STATUSES:
        if isinstance(err, kind):
            return status, text
    if isinstance(err, OSError) and err.errno in _FULL and err.filename is None:
        found = (err.strerror or "no space left").lower()
        return WRONG_USE, f"expected to write the answer, found: {found}; make room, or write it elsewhere"
    if isinstance(err, OSError) and err.filename is not None:
        found = (err.strerror or type(err).__name__).lower()
        return WRONG_USE, f"{err.filename}: expected to read or write it, found: {found}; check the path and its rights"
    return FAULT, (
        f"a fault of cellgate itself, {type(err).__name__}: {text[:300]}; run it again with --debug for the traceback "
        "and report it"
    )


def _dispatch(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    started_s = time.perf_counter()  # loading a command's packages is part of what people wait for
    parser = make_parser()
    if not argv:
        parser.print_help()
        return DONE
    try:
        arguments = parser.parse(argv)
    except SystemExit as err:  # --help and --version have printed what they say
        return int(err.code or DONE)
    arguments.argv = list(argv)
    arguments.environ = environ
    arguments.started_s = started_s
    command = load(f"{__package__}.{arguments.command}_command", arguments.command)
    status: int = command.run(arguments)
    return status


def _take_streams() -> None:
    """Put something in the place of a stream that the caller closed, and let no character be one too many for it.

    An answer may hold any character, of a label or a path; where stdout takes ASCII alone, others are written out.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end
        elif isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Let the interpreter's last flush go nowhere, for it would complain of the closed pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
