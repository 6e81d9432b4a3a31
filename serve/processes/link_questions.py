"""What a frontend asks of the engine beside work: questions and orders, each with one answer.

Rules of this file: it belongs to one event loop. Everything asked is answered once, by a value, an error, or the
connection's end.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import EngineLost, ServeError
from .tensor_frames import Piece


class LinkQuestions:
    """The questions of one connection that are not answered.

    Args:
        tickets: numbers that nothing else on this connection has.
        write: sends whole frames.
    """

    def __init__(self, tickets: Iterator[int], write: Callable[[list[Piece]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tickets = tickets
        self._write = write
        self._asked: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, pack: Callable[[int], bytes], unsay: Callable[[int], bytes] | None = None) -> Any:
        """Ask, and return the answer.

        Args:
            pack: makes the frame with this ticket.
            unsay: makes the frame that takes it back, where nobody waits any more; None: it is answered all the same.

        Raises:
            ServeError: it was refused.
            EngineLost: the connection ended first.
        """
        ticket = next(self._tickets)
        future = self._asked[ticket] = self._loop.create_future()
        self._write([pack(ticket)])
        try:
            return await future
        except asyncio.CancelledError:
            if unsay is not None:
                self._write([unsay(ticket)])
            raise
        finally:
            self._asked.pop(ticket, None)

    def answer(self, ticket: int, value: Any) -> None:
        """Answer, if somebody still waits."""
        future = self._asked.pop(ticket, None)
        if future is not None and not future.done():
            future.set_result(value)

    def refuse(self, ticket: int, error: ServeError) -> None:
        """Refuse, if somebody still waits."""
        future = self._asked.pop(ticket, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def end(self) -> None:
        """The connection is lost: tell everybody."""
        for ticket in tuple(self._asked):
            self.refuse(ticket, EngineLost())
