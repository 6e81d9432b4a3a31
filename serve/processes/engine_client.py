"""The engine in another process, as an `EnginePort`: connects, connects again, says whether there is an engine.

Rules of this file: it belongs to one event loop. The listener is the supervisor's and outlives every engine, so
connecting succeeds while no engine runs, and the hello comes as soon as the next one is ready: nobody polls.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from ..engine.port import OnDone
from ..engine.work import StreamOrder, StreamReport, Work
from ..errors import EngineLost, NotReady
from ..models.control_port import ControlAction
from ..models.model_table import ModelTable
from ..settings import Settings
from .engine_link import EngineLink, LinkLimits
from .hello import Offer, offers_of

logger = logging.getLogger("cellgate.engine")

HELLO_PATIENCE_S: Final = 1.0  # of a frontend; then it listens without an engine, which readiness tells
_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 1.0
_SLACK_BYTES: Final = 2**16  # of a frame beside its tensors' elements
_ELEMENT_BYTES: Final = 8  # of the widest dtype
_MOST_OTHER_BYTES: Final = 2**28  # hello, statistics, the record of a stream: no setting bounds these

OnModels = Callable[[ModelTable, Sequence[str]], None]


def table_of(offers: Sequence[Offer]) -> ModelTable:
    """Return the table of what an engine offers."""
    current = [offer.served for offer in offers if offer.is_current]
    return ModelTable(current, [offer.served for offer in offers if not offer.is_current])


def _nobody(_table: ModelTable, _names: Sequence[str]) -> None:
    """Tell nobody."""


class EngineClient:
    """An engine behind a Unix socket.

    Args:
        path: of the socket.
        settings: of this server.

    Attributes:
        on_models: called with the models whenever an engine says what it serves, before any work for them can be
            submitted, and with the names of all models that were ever served, in their order.
    """

    def __init__(self, path: str, settings: Settings) -> None:
        self.on_models: OnModels = _nobody
        self._path = path
        self._limits = LinkLimits(
            max_waiting=settings.max_waiting,
            max_waiting_bytes=settings.max_waiting_bytes,
            max_frame_bytes=max(settings.max_answer_elements * _ELEMENT_BYTES, _MOST_OTHER_BYTES) + _SLACK_BYTES,
            max_lanes=settings.max_lanes,
        )
        self._link: EngineLink | None = None  # one that said hello
        self._was_ready = False
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is an engine."""
        return self._link is not None

    def has_room(self) -> bool:
        """Whether more may wait; true where there is no engine, which is another matter."""
        return self._link is None or self._link.has_room()

    def submit(self, work: Work, on_done: OnDone) -> int:
        """Hand work over; see `EnginePort`.

        Raises:
            QueueFull: as much waits as may wait.
            NotReady: there was no engine yet, or this client is closed.
            EngineLost: the engine's process has died, and the next one is not ready.
        """
        link = self._link
        if link is None:
            raise self._missing()
        return link.submit(work, on_done)

    def cancel(self, ticket: int) -> None:
        """Forget work; see `EnginePort`."""
        if self._link is not None:
            self._link.cancel(ticket)

    async def order(self, order: StreamOrder) -> StreamReport:
        """Pass an order about a stream on; see `EnginePort`."""
        if self._link is None:
            raise self._missing()
        return await self._link.questions.order(order)

    async def control(self, action: ControlAction, name: str, version: str | None = None) -> Any:
        """Have the engine load or unload a model, or give up what it tries.

        Args:
            action: what to do.
            name: of the model.
            version: of it; None: see `model_desk`.

        Raises:
            ServeError: it was refused, or there is no engine at the moment.
        """
        if self._link is None:
            raise self._missing()
        return await self._link.questions.control(action, name, version)

    async def statistics(self) -> Mapping[str, Any]:
        """Return what the engine counts, as plain JSON values.

        Raises:
            NotReady, EngineLost: there is no engine at the moment.
        """
        if self._link is None:
            raise self._missing()
        return await self._link.questions.statistics()

    @asynccontextmanager
    async def running(self, patience_s: float = 0.0) -> AsyncIterator["EngineClient"]:
        """Stay connected inside; at the end, those who still wait get an error.

        Args:
            patience_s: longest wait for an engine before going on without.
        """
        self._task = asyncio.create_task(self._stay_connected())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wait_ready(), patience_s)
            yield self
        finally:
            self._was_ready = False
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def wait_ready(self) -> None:
        """Return once there is an engine."""
        await self._ready.wait()

    def _missing(self) -> EngineLost | NotReady:
        return EngineLost() if self._was_ready else NotReady()

    async def _stay_connected(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            if await self._hold_connection():
                pause_s = _FIRST_PAUSE_S
                continue
            # Nobody listens, or says the right hello: somebody has to mend that first.
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _hold_connection(self) -> bool:
        """Connect once and stay until the connection is lost; return whether there was an engine."""
        lost, greeted = asyncio.Event(), False

        def on_hello(link: EngineLink, hello: Any) -> None:
            nonlocal greeted
            offers = offers_of(hello)
            self.on_models(table_of(offers), hello["names"])
            link.take(offers, hello["generation"])
            self._link = link
            self._was_ready = greeted = True
            self._ready.set()

        def on_lost(_link: EngineLink) -> None:
            self._link = None
            self._ready.clear()
            lost.set()

        loop = asyncio.get_running_loop()
        try:
            _, link = await loop.create_unix_connection(lambda: EngineLink(self._limits, on_hello, on_lost), self._path)
        except OSError as err:
            logger.warning("%s: expected to reach the engine, found: %s", self._path, err)
            return False
        try:
            await lost.wait()
        finally:
            link.abort()
            await lost.wait()
        return greeted
