"""Errors across a process's border: as a word and a sentence, and back as the same class with the same sentence.

Rules of this file: only classes that are named here or in the two vocabularies come back; anything else is a fault of
ours and says so.
"""

import signal
import traceback
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from ...bundle import errors as bundle_errors
from .. import errors, start_errors, stream_errors
from ..errors import (
    BadInput,
    DeadlineExceeded,
    EngineError,
    EngineLost,
    LoadRefused,
    NotInRepository,
    NotReady,
    QueueFull,
    ServeError,
    UnknownModel,
)
from ..start_errors import ServerStartError
from ..stream_errors import (
    ModelChanged,
    StepConflict,
    StepGap,
    StoreUnavailable,
    StreamDamaged,
    StreamEnded,
    StreamExists,
    StreamExpired,
    StreamsFull,
    UnknownStream,
)

_Error = TypeVar("_Error", bound=Exception)

# What an engine may answer with. The last one also stands for a word that is not known here.
_OF_STREAMS: Final = (
    BadInput,
    UnknownStream,
    StreamEnded,
    StreamExpired,
    StreamDamaged,
    StreamExists,
    StepGap,
    StepConflict,
    ModelChanged,
    StreamsFull,
    StoreUnavailable,
)
_OF_REPOSITORY: Final = (NotInRepository, LoadRefused)
_OF_THE_ENGINE: Final = (QueueFull, NotReady, EngineLost, DeadlineExceeded, UnknownModel, EngineError)
_KINDS: Final = (*_OF_STREAMS, *_OF_REPOSITORY, *_OF_THE_ENGINE)
_ANSWERS: Final = {kind.code: kind for kind in _KINDS}


def error_to_words(err: ServeError) -> list[Any]:
    """Return the code and the message of an answer that is an error, and its facts where it has some."""
    return [err.code, str(err), dict(err.facts)] if err.facts else [err.code, str(err)]


def error_from_words(words: Any) -> ServeError:
    """Return the error that `error_to_words` took apart."""
    code, message, *facts = words
    err = _rebuild(_ANSWERS.get(code, EngineError), str(message))
    if facts:
        err.facts = facts[0]
    return err


def start_error_to_report(err: Exception) -> dict[str, str]:
    """Return why a process could not start: its class, one sentence, and, where nobody expected it, the traceback."""
    report = {"kind": type(err).__name__, "error": str(err)}
    if _start_class(report["kind"]) is None:
        report["traceback"] = "".join(traceback.format_exception(err))
    return report


def start_error_from_report(report: Mapping[str, Any]) -> Exception:
    """Return the error that `start_error_to_report` took apart.

    Returns:
        A BundleError or ServeError of the same class and sentence; a RuntimeError that carries the traceback as a note
        where the process failed in a way that nobody expected.
    """
    kind = _start_class(str(report["kind"]))
    if kind is not None:
        return _rebuild(kind, str(report["error"]))
    fault = RuntimeError(f"{report['kind']}: {report['error']}")
    fault.add_note(str(report.get("traceback", "")))
    return fault


def ended_early(who: str, status: int | None) -> ServerStartError:
    """Return the error of a process that ended before it said anything."""
    return ServerStartError(f"{who}: expected it to start, found that its process ended with {how_it_ended(status)}")


def how_it_ended(status: int | None) -> str:
    """Return an exit status, or minus a signal, in words."""
    return f"signal {-status}" if status is not None and status < 0 else f"status {status}"


def how_it_died(status: int | None) -> str:
    """Return the same for whoever has to find out why: with the signal's name, and what it most likely means."""
    if status is None or status >= 0:
        return f"exit code {status}"
    name = next((known.name for known in signal.Signals if known == -status), "one that has no name")
    hint = ", as where memory runs out" if -status == signal.SIGKILL else ""
    return f"signal {-status} ({name}{hint})"


def _start_class(name: str) -> type[Exception] | None:
    for vocabulary in (errors, stream_errors, start_errors, bundle_errors):
        found = getattr(vocabulary, name, None)
        if isinstance(found, type) and issubclass(found, ServeError | bundle_errors.BundleError):
            return found
    return None


def _rebuild(kind: type[_Error], message: str) -> _Error:
    """Make the error from its sentence: constructors take the facts, which the sentence holds already."""
    err = kind.__new__(kind)
    err.args = (message,)
    return err
