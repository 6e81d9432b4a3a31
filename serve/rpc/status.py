"""Every failure as a gRPC status: code, the sentence that HTTP says in its error object, and trailing metadata.

    error-code     the same stable word as HTTP's `code`
    retry-after    seconds, where the same request may succeed later
    request-id     of a fault, under which the server's log has more; of every call where requests are told of
    …              facts for programs, by their names, with hyphens

Rules of this file: a table from the classes of errors; whatever is not in it goes by its HTTP status, so that no
class is forgotten. A fault of ours says nothing of the inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from grpc import StatusCode

from ..errors import (
    BadInput,
    BodyTooLarge,
    DeadlineExceeded,
    EngineLost,
    NotReady,
    QueueFull,
    ServeError,
    UnknownModel,
    UnsupportedMedia,
)
from ..head_errors import UnknownPath
from ..observe.fault_report import report_fault
from ..stream_errors import StreamExists

_OF_CLASS: Final[Mapping[type[ServeError], StatusCode]] = {
    BadInput: StatusCode.INVALID_ARGUMENT,
    UnsupportedMedia: StatusCode.INVALID_ARGUMENT,
    UnknownModel: StatusCode.NOT_FOUND,
    UnknownPath: StatusCode.UNIMPLEMENTED,  # a path is a call, and there is none of this name
    BodyTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    QueueFull: StatusCode.RESOURCE_EXHAUSTED,
    NotReady: StatusCode.UNAVAILABLE,
    EngineLost: StatusCode.UNAVAILABLE,
    DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    StreamExists: StatusCode.ALREADY_EXISTS,
}
_OF_STATUS: Final[Mapping[int, StatusCode]] = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    409: StatusCode.ABORTED,
    410: StatusCode.NOT_FOUND,
    412: StatusCode.FAILED_PRECONDITION,
    413: StatusCode.RESOURCE_EXHAUSTED,
    415: StatusCode.INVALID_ARGUMENT,
    421: StatusCode.PERMISSION_DENIED,  # a name that is not this server's, from the gate that says so of an origin
    422: StatusCode.FAILED_PRECONDITION,
    429: StatusCode.RESOURCE_EXHAUSTED,
    501: StatusCode.UNIMPLEMENTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """How a call ends that has failed.

    Attributes:
        code: of gRPC.
        sentence: its details.
        facts: for programs.
    """

    code: StatusCode
    sentence: str
    facts: Mapping[str, int | str]

    @property
    def trailing(self) -> tuple[tuple[str, str], ...]:
        """The facts as trailing metadata."""
        return tuple((name.replace("_", "-"), str(value)) for name, value in self.facts.items())


def status_code_of(kind: type[ServeError]) -> StatusCode:
    """Return the code for a class of errors, which the nearest class in the table gives."""
    found = next((_OF_CLASS[one] for one in kind.__mro__ if one in _OF_CLASS), None)
    return found or _OF_STATUS.get(kind.status, StatusCode.INTERNAL)


def status_of(error: Exception, request_id: str | None = None) -> RpcStatus:
    """Return how a call ends; what is a fault of ours is logged, under the request's id or one that is made for it."""
    if isinstance(error, ServeError):
        code = status_code_of(type(error))
        if code is not StatusCode.INTERNAL:
            wait = error.headers.get("Retry-After")
            retry: dict[str, int | str] = {} if wait is None else {"retry_after": wait}
            return RpcStatus(code, str(error), {"error_code": error.code, **retry, **error.facts})
    fault = report_fault(error, request_id)
    return RpcStatus(StatusCode.INTERNAL, fault.text, {"error_code": fault.code, "request_id": fault.request_id})
