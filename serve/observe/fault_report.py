"""A fault of ours: the log gets the traceback, the client an opaque id that the log repeats, and nothing of the inside.

Rules of this file: it knows no protocol; every protocol says a fault with these words.
"""

import logging
import secrets
from dataclasses import dataclass

from ..errors import EngineError, ServeError

logger = logging.getLogger("cellgate.serve")


@dataclass(frozen=True, slots=True)
class FaultReport:
    """What a client is told: a sentence, a word for programs, and the id under which the log has more."""

    text: str
    code: str
    request_id: str


def report_fault(error: Exception, request_id: str | None = None) -> FaultReport:
    """Log a fault with its traceback and return what the client is told.

    An EngineError's own message is made for clients and goes along.

    Args:
        error: what went wrong.
        request_id: of the request; None: it has none, and gets one.
    """
    request_id = request_id or secrets.token_hex(8)
    logger.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id})
    known = isinstance(error, EngineError)
    text = f"{error}" if known else "internal error"
    return FaultReport(
        f"{text}; the server's log has more under request id {request_id}",
        EngineError.code if known else ServeError.code,
        request_id,
    )
