"""What a server says about its work: the numbers, gathered from every process at the moment of the question.

Rules of this file: it waits for the engine, and not for long: a scrape is answered while the engine is gone, hangs
or starts. What the numbers look like is for `metrics` and `statistics`.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import anyio.to_thread

from ..errors import ServeError
from ..models.served_model import ServedModel
from ..serving_state import ServingState
from .metrics import ServerView, render_metrics
from .process_facts import process_facts
from .statistics import statistics_answer

_ENGINE_PATIENCE_S: Final = 1.0


async def scrape(serving: ServingState, accept: str) -> tuple[bytes, str]:
    """Gather everything that a scrape shows, and render it, off the event loop; see `render_metrics`."""
    engine = await _ask_engine(serving)
    return await anyio.to_thread.run_sync(lambda: render_metrics(view_server(serving, engine), accept))


def view_server(serving: ServingState, engine: Mapping[str, Any] | None) -> ServerView:
    """Gather everything that a scrape shows.

    Args:
        serving: of this process.
        engine: what the engine says of itself, or None.
    """
    reading = serving.counters.read()
    found = {name: process_facts(process) for name, process in reading.processes.items()}
    return ServerView(
        models=(*serving.table.models, *serving.table.retired),
        reading=reading,
        engine=engine,
        is_ready=serving.is_ready,
        processes={name: facts for name, facts in found.items() if facts is not None},
    )


def answer_statistics(serving: ServingState, models: Sequence[ServedModel]) -> Any:
    """Return the protocol's statistics of some models, as plain JSON values."""
    wall_s = datetime.now(UTC).timestamp()
    return statistics_answer(models, serving.counters.read(), time.monotonic(), wall_s)


async def _ask_engine(serving: ServingState) -> Mapping[str, Any] | None:
    if not serving.engine.is_ready:
        return None
    try:
        return await asyncio.wait_for(serving.engine.statistics(), _ENGINE_PATIENCE_S)
    except (ServeError, TimeoutError):
        return None
