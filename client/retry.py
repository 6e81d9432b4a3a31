"""When to send a request again: one conversation for the plain and the async client.

Rules of this file: pure. It is a generator that says what to do (send this, or pause so many seconds) and is told what
came of it; it reads no clock and opens no connection. Only what may be repeated is repeated: an inference without a
stream changes nothing in the server, and a stream's chunk carries its step, which the server applies once.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from .errors import GaveUpError, InputError
from .infer_message import Call, Reply

_AGAIN: Final = (502, 503)  # a proxy that lost the server; a server that is full, starting, or lost its engine
_LONGEST_ASKED_S: Final = 60.0  # a server cannot make a client wait longer than this


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often and how long.

    Attributes:
        attempts: at least 1; 1 is no retry.
        first_pause_s: before the second attempt; doubled before each further one.
        longest_pause_s: limit of the doubling. `Retry-After` of the server may ask for more.
    """

    attempts: int = 8
    first_pause_s: float = 0.05
    longest_pause_s: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InputError("attempts", "at least 1", str(self.attempts))
        if not 0 <= self.first_pause_s <= self.longest_pause_s:
            raise InputError("first_pause_s", f"0 .. longest_pause_s ({self.longest_pause_s})", str(self.first_pause_s))

    def pause_s(self, attempt: int, asked_s: float, draw: float) -> float:
        """Return the pause after an attempt, 1 for the first.

        Args:
            attempt: number of the attempt that failed.
            asked_s: by the server; 0.0 where it did not.
            draw: in 0 .. 1; half of the pause is random, so that clients do not come back together.

        >>> RetryPolicy(first_pause_s=0.1).pause_s(3, 0.0, 1.0)
        0.4
        """
        doubled = min(self.first_pause_s * 2.0 ** (attempt - 1), self.longest_pause_s)
        return max(doubled * (0.5 + 0.5 * draw), min(asked_s, _LONGEST_ASKED_S))


@dataclass(frozen=True, slots=True)
class NoReply:
    """A request to which no whole answer came; the reason in words."""

    reason: str


Step = Call | float
Told = Reply | NoReply | None


def converse(
    call: Call, url: str, policy: RetryPolicy, draw: Callable[[], float] = random.random
) -> Generator[Step, Told, Reply]:
    """Send a request until it is answered.

    Yields the request, and is sent the reply or why there is none; or yields seconds to pause, and is sent None.

    Args:
        call: that may be repeated.
        url: of the server, for the message.
        policy: how often.
        draw: uniform in 0 .. 1.

    Returns:
        The first reply that is not "try again".

    Raises:
        GaveUpError: there was none.
    """
    reason = ""
    for attempt in range(1, policy.attempts + 1):
        told = yield call
        if isinstance(told, Reply) and told.status not in _AGAIN:
            return told
        asked_s = 0.0
        if isinstance(told, Reply):
            reason, asked_s = f"status {told.status}", _seconds(told.headers.get("retry-after", ""))
        elif told is not None:
            reason = told.reason
        if attempt < policy.attempts:
            yield policy.pause_s(attempt, asked_s, draw())
    raise GaveUpError(url, policy.attempts, reason)


def _seconds(text: str) -> float:
    """Return the seconds of a Retry-After; a date, which this server never sends, counts as none."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0.0  # noqa: PLR2004 - digits
