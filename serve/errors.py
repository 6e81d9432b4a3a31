"""What can go wrong while serving, one class a situation: status, code, whether trying again can help.

Rules of this file: a class builds the message from facts, the call site only names them; messages of 4xx classes are
for clients and name the thing, expected, found and the remedy; nothing here knows HTTP beyond the number. What only a
head, a stream or a start can go wrong with is in `head_errors`, `stream_errors` and `start_errors`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

Facts = Mapping[str, int | str]
_NO_FACTS: Final[Facts] = MappingProxyType({})
_SHOWN = 120  # characters of a client's own text that an answer repeats


def shown(value: object) -> str:
    """Return a short, printable form of something that a client sent."""
    try:
        text = repr(value)
    except RecursionError:  # nested as deep as the parser of JSON reads, which is deeper than this goes
        text = "something nested too deep to be shown"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def with_cause(err: Exception) -> str:
    """Return an error with its cause, in which the runtime says more than a client is told; on one line."""
    return str(err) if err.__cause__ is None else " ".join(f"{err}: {err.__cause__}".split())


def _version_words(versions: Sequence[int]) -> str:
    *others, last = map(str, versions)
    return f"versions {', '.join(others)} and {last}" if others else f"version {last}"


class ServeError(Exception):
    """Anything this folder refuses or fails at. Raised only as one of its subclasses.

    Attributes:
        status: HTTP status of the answer.
        code: stable word for programs.
        retryable: the same request may succeed later.
        headers: further headers of the answer.
        facts: of one error, for programs; they stand beside its message.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    headers: ClassVar[dict[str, str]] = {}
    facts: Facts = _NO_FACTS


class BadInput(ServeError):  # noqa: N818 - the names of the table in the house style
    """The request says something impossible: client's fault."""

    status = 400
    code = "bad_input"

    def __init__(self, what: str, expected: str, found: str, remedy: str = "") -> None:
        end = f"; {remedy}" if remedy else ""
        super().__init__(f"{what}: expected {expected}, found {found}{end}")


class UnknownModel(ServeError):  # noqa: N818
    """No bundle is served under this name, or not in this version."""

    status = 404
    code = "unknown_model"

    def __init__(self, name: str, version: str | None, served: str) -> None:
        asked = shown(name) if version is None else f"{shown(name)} version {shown(version)}"
        super().__init__(f"model: expected one of {served}, found {asked}; see GET /v2/models")


class NotInRepository(ServeError):  # noqa: N818
    """No bundle of this name and version lies where bundles may be loaded from."""

    status = 404
    code = "not_in_repository"

    def __init__(self, name: str, version: str | None, versions: Sequence[int]) -> None:
        asked = shown(name) if version is None else f"{shown(name)} version {shown(version)}"
        found = f"{_version_words(versions)} of it" if versions else "none"
        remedy = "put it there; names and versions are those of the manifests"
        super().__init__(f"model repository: expected a bundle of {asked}, found {found}; {remedy}")


class LoadRefused(ServeError):  # noqa: N818
    """A bundle that lies in the repository cannot be served beside what is served now."""

    status = 409
    code = "load_refused"

    def __init__(self, what: str, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}; {remedy}")


class BodyTooLarge(ServeError):  # noqa: N818
    """The body is, or says it will be, longer than the limit. The connection is closed, for the rest is not read."""

    status = 413
    code = "body_too_large"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    def __init__(self, max_body_bytes: int) -> None:
        super().__init__(f"body: expected at most {max_body_bytes} bytes, found more; send fewer rows a request")


class UnsupportedMedia(ServeError):  # noqa: N818
    """The body is not plain JSON."""

    status = 415
    code = "unsupported_media"

    def __init__(self, header: str, expected: str, found: str, remedy: str = "") -> None:
        end = f"; {remedy}" if remedy else ""
        super().__init__(f"{header}: expected {expected}, found {shown(found)}{end}")


class QueueFull(ServeError):  # noqa: N818
    """As many requests wait as may wait."""

    status = 503
    code = "queue_full"
    retryable = True
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    def __init__(self, max_waiting: int) -> None:
        super().__init__(
            f"queue: expected fewer than {max_waiting} waiting requests, found so many now or a moment ago; "
            "try again later"
        )


class QueueBytesFull(QueueFull):
    """The tensors of the requests that wait take as many bytes as they may."""

    def __init__(self, max_waiting_bytes: int) -> None:
        ServeError.__init__(
            self,
            f"queue: expected at most {max_waiting_bytes} bytes in the tensors of waiting requests, found no room for "
            "these; send fewer rows a request, or try again later",
        )


class QueueTooLong(QueueFull):
    """More waits than can be done before the request's deadline: told at once, instead of after it."""

    def __init__(self, wait_s: float, left_s: float) -> None:
        ServeError.__init__(
            self,
            f"timeout: expected about {wait_s:.2g} s or more, for so long is the queue, found {left_s:.2g} s; allow "
            "more time, or try again later",
        )


class NotReady(ServeError):  # noqa: N818
    """The server is still starting or is already stopping."""

    status = 503
    code = "not_ready"
    retryable = True
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    def __init__(self) -> None:
        super().__init__("server: expected it ready, found it starting or stopping; see GET /v2/health/ready")


class EngineLost(ServeError):  # noqa: N818
    """The engine's process died under the request. Nothing of it is kept; the same request may be sent again."""

    status = 503
    code = "engine_lost"
    retryable = True
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    def __init__(self) -> None:
        super().__init__("engine: expected an answer, found that its process ended; it starts again: send it again")


class DeadlineExceeded(ServeError):  # noqa: N818
    """The work's deadline passed before it was done; what was left of it is not computed."""

    status = 504
    code = "deadline"
    retryable = True

    def __init__(self) -> None:
        super().__init__("deadline: expected the answer before it, found it passed; allow more time or send less")


class EngineError(ServeError):
    """A fault of ours: the runtime refused the batch or returned what no answer can carry.

    The message may reach the client and therefore holds names and shapes only; the cause holds the rest, for the log.
    """

    code = "engine"
