"""One connection to the server: bytes out, answers in, nothing decided.

Rules of this file: the only one that touches a transport; what an answer means is the load's.
"""

import asyncio
from typing import Protocol, cast

from .errors import AnswerError
from .http_answer import Answer, AnswerReader
from .infer_request import Part
from .jobs import Job


class Owner(Protocol):
    """Who is told what happens on a connection."""

    def on_open(self, connection: "Connection") -> None:
        """The connection can be used."""
        ...

    def on_answer(self, connection: "Connection", answer: Answer) -> None:
        """The answer to what was sent is complete."""
        ...

    def on_garbled(self, connection: "Connection") -> None:
        """What came is no answer; the connection is being closed."""
        ...

    def on_closed(self, connection: "Connection") -> None:
        """The connection ended, whoever ended it."""
        ...


class Connection(asyncio.Protocol):
    """A connection and what is under way on it.

    Attributes:
        job: under way, or None.
        part: the request of the job that was sent last.
        place: of that part in the job.
        stream: number of this run through the job.
        scheduled_s: when the request was due.
        sent_s: when it was sent, or when the connection became idle.
    """

    __slots__ = ("_owner", "_reader", "_transport", "job", "part", "place", "scheduled_s", "sent_s", "stream")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self.job: Job | None = None
        self.part: Part | None = None
        self.place = 0
        self.stream = 0
        self.scheduled_s = 0.0
        self.sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._owner.on_open(self)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        try:
            answer = self._reader.feed(data)
        except AnswerError:
            self._owner.on_garbled(self)
            return
        if answer is not None:
            self._owner.on_answer(self, answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Called by the event loop."""
        self._transport = None
        self._owner.on_closed(self)

    def send(self, payload: bytes) -> None:
        """Hand a request over to the operating system."""
        if self._transport is not None:
            self._transport.write(payload)

    def abort(self) -> None:
        """Close without waiting for anything; `on_closed` follows."""
        if self._transport is not None:
            self._transport.abort()
