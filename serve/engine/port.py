"""How protocols reach the engine, wherever it runs: in this process (`threaded`) or in a child (`processes`).

Rules of this file: an interface and the one coroutine on top of it; both implementations pass the same contract tests.
"""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from ..errors import BadInput, ServeError
from .work import Answer, Outcome, Reply, StreamAnswer, StreamOrder, StreamReport, Work

OnDone = Callable[[Outcome], None]
OnReport = Callable[[StreamReport | ServeError], None]
Order = Callable[[StreamOrder, OnReport], Hashable]  # see `streams.streaming_engine.StreamingEngine.order`


def no_streams(_order: StreamOrder, _on_done: OnReport) -> Hashable:
    """Refuse an order where there is an engine without streams."""
    raise BadInput("streams", "a server with them", "none", "send whole sequences")


class EnginePort(Protocol):
    """Takes work from one event loop. Every accepted work is answered exactly once, or cancelled."""

    @property
    def is_ready(self) -> bool:
        """Whether work is taken."""
        ...

    def has_room(self) -> bool:
        """Return whether more may wait; where not, `submit` refuses. Cheap: asked before a request's body is read."""
        ...

    def submit(self, work: Work, on_done: OnDone) -> int:
        """Hand work over.

        Args:
            work: checked.
            on_done: called once on the event loop with the answer or the error, never before this returns, and never
                after `cancel`.

        Returns:
            A ticket for `cancel`.

        Raises:
            QueueFull: as much waits as may wait, or so much that the work's deadline will have passed.
            NotReady, EngineLost: there is no engine at the moment.
        """
        ...

    def cancel(self, ticket: int) -> None:
        """Nobody waits any more: the work leaves its lane at the next run. A ticket of work that ended is ignored."""
        ...

    async def order(self, order: StreamOrder) -> StreamReport:
        """Carry out an order about a stream.

        Raises:
            ServeError: the stream, or the engine, refused it; there is no engine, or none with streams.
        """
        ...

    async def statistics(self) -> Mapping[str, Any]:
        """Return what the engine counts, as plain JSON values.

        Raises:
            NotReady, EngineLost: there is no engine at the moment.
        """
        ...


class DrivenEngine(Protocol):
    """What a thread, or a loop, needs of the engine that it drives; `engine.Engine` says what each does."""

    def submit(self, ticket: Hashable, work: Work) -> None: ...  # noqa: D102
    def cancel(self, ticket: Hashable) -> None: ...  # noqa: D102
    def run_once(self) -> Sequence[tuple[Hashable, Outcome]]: ...  # noqa: D102
    def wait_s(self) -> float | None: ...  # noqa: D102
    def statistics(self) -> dict[str, Any]: ...  # noqa: D102
    def close(self) -> Sequence[tuple[Hashable, Outcome]]: ...  # noqa: D102


async def infer(port: EnginePort, work: Work) -> Answer:
    """Hand work over and wait for its outputs; see `ask`."""
    reply = await ask(port, work)
    return reply.outputs if isinstance(reply, StreamAnswer) else reply


async def ask(port: EnginePort, work: Work) -> Reply:
    """Hand work over and wait for its answer; a cancelled caller cancels the work.

    Raises:
        ServeError: what the engine refused or failed at.
    """
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    # A caller that was cancelled in this very turn of the loop is not there any more.
    ticket = port.submit(work, lambda outcome: None if done.done() else done.set_result(outcome))
    try:
        outcome = await done
    except asyncio.CancelledError:
        port.cancel(ticket)
        raise
    if isinstance(outcome, ServeError):
        raise outcome
    return outcome
