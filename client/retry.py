"""When to send a request again: one conversation for the plain and the async client.

Rules of this file: pure. It is a generator that says what to do (send this, or pause so many seconds) and is told what
came of it; it reads no clock and opens no connection. Only what may be repeated is repeated: an inference without a
stream changes nothing in the server, and a stream's chunk that carries its step is applied once. A chunk without one is
sent again only where it is certain that it was not applied.
"""

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from .errors import GaveUpError, InputError
from .infer_message import Call, Reply, error_object

_AGAIN: Final = (502, 503)  # a proxy that lost the server; a server that is full, starting, or lost its engine
# Codes of refusals that are given before a chunk runs; others, queue_full among them, may be given after it as well.
_NOT_APPLIED: Final = ("streams_full", "too_many_connections")
_MOST_DOUBLINGS: Final = 64  # of a pause: a float has room for a thousand, and attempts may be more
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
        doublings = min(attempt - 1, _MOST_DOUBLINGS)
        doubled = min(self.first_pause_s * 2.0**doublings, self.longest_pause_s)
        return max(doubled * (0.5 + 0.5 * draw), min(asked_s, _LONGEST_ASKED_S))


@dataclass(frozen=True, slots=True)
class NoReply:
    """A request to which no whole answer came; the reason in words, and whether the server may have seen it."""

    reason: str
    was_sent: bool = True


Step = Call | float
Told = Reply | NoReply | None


def converse(
    call: Call, url: str, policy: RetryPolicy, draw: Callable[[], float] = random.random
) -> Generator[Step, Told, Reply]:
    """Send a request until it is answered.

    Yields the request, and is sent the reply or why there is none; or yields seconds to pause, and is sent None.

    Args:
        call: is sent again as often as the policy allows, or, where it may not be repeated, as long as it is certain
            that it was not carried out.
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
        if not call.may_repeat and _may_count(told):
            raise GaveUpError(url, attempt, reason, may_repeat=False)
        if attempt < policy.attempts:
            yield policy.pause_s(attempt, asked_s, draw())
    raise GaveUpError(url, policy.attempts, reason)


def _may_count(told: Told) -> bool:
    """Whether the server may have carried out what it did not answer with success."""
    if isinstance(told, Reply):
        return error_object(told).get("code") not in _NOT_APPLIED
    return told is None or told.was_sent


def _seconds(text: str) -> float:
    """Return the seconds of a Retry-After; a date, which this server never sends, counts as none."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0.0  # noqa: PLR2004 - digits
