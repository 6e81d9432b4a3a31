"""What a frontend asks of the engine beside work: questions and orders, each with one answer.

Rules of this file: it belongs to one event loop. Everything asked is answered once, by a value, an error, or the
connection's end.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..engine.work import StreamOrder, StreamReport
from ..errors import EngineLost, ServeError
from ..models.control_port import ControlAction
from .frames import Kind, pack_bare, pack_json, pack_mixed
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

    async def statistics(self) -> Mapping[str, Any]:
        """Ask the engine what it counts; see `ask`."""
        found: Mapping[str, Any] = await self.ask(lambda ticket: pack_bare(Kind.ASK_STATISTICS, ticket))
        return found

    async def control(self, action: ControlAction, name: str, version: str | None) -> Any:
        """Have the engine load or unload a model (`model_desk`); see `ask`."""
        return await self.ask(lambda ticket: pack_json(Kind.CONTROL, ticket, [action, name, version]))

    async def order(self, order: StreamOrder) -> StreamReport:
        """Pass an order on (`EnginePort.order`); see `ask`."""
        words = [order.kind, order.model, order.id]
        found: StreamReport = await self.ask(
            lambda ticket: pack_mixed(Kind.ORDER, ticket, words, order.data),
            lambda ticket: pack_bare(Kind.CANCEL, ticket),
        )
        return found

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
