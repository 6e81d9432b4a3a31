"""The engine's process: opens the bundles, proves them, and serves frontends until it is told to stop.

    python -m cellgate.serve.processes.engine_child    started by the supervisor, see `child_border`

Rules of this file: composition only. A fault that nobody foresaw ends the process: the supervisor starts the next one.
"""

import gc
import logging
import signal
import socket
import sys
from typing import Any, Final

from ...bundle.errors import BundleError
from ..engine.engine import Engine
from ..engine.engine_limits import EngineLimits
from ..engine.models import EngineModel, Tell, open_engine_model, open_engine_models
from ..models.repository import Repository
from ..models.served_model import ServedBundle, read_served_bundle
from ..observe.counter_page import Counters
from ..observe.operation_log import operation_logging
from ..settings import Settings
from ..start_errors import ServerStartError
from ..streams.limits import StreamLimits
from ..streams.store import StreamStore
from ..streams.store_choice import open_store
from ..streams.streaming_engine import StreamingEngine
from .child_border import ChildBorder, child_main, places_of, repository_of, settings_of
from .counter_files import counters_of
from .engine_loop import EngineLoop
from .hang_watch import interval_s
from .model_desk import ModelDesk
from .model_loader import ModelLoader
from .roster import Entry, Roster

logger = logging.getLogger("cellgate.engine")

_SLACK_BYTES: Final = 2**16  # of a frame beside its tensors
_GROWTH: Final = 8  # JSON to tensors: a character and a comma may be a value of 8 bytes


def serve_engine(border: ChildBorder, config: dict[str, Any]) -> None:
    """Open the bundles, report ready, and serve until SIGTERM or the lifeline's end.

    Raises:
        BundleError, ServerStartError: a bundle cannot be served, or the store of streams not be opened.
    """
    settings = settings_of(config)
    with operation_logging(settings.log_format, "engine"):
        _serve(border, config, settings)


def _serve(border: ChildBorder, config: dict[str, Any], settings: Settings) -> None:
    repository = repository_of(config, settings)

    def tell(read: ServedBundle, doing: str) -> None:
        border.report({"opening": [str(read.bundle.path), read.bundle.digest, doing]})

    models = _open_models(config, settings, repository, tell)
    store = open_store(settings, is_restart=config.get("is_restart", False))
    roster = Roster(store.line, config.get("names", ()))
    for model, is_current in models:
        roster.add(model, model.plan_line(settings), is_current=is_current)
    counters = counters_of(config, roster.names)
    with socket.socket(fileno=config["listener"]) as listener:
        loop = make_loop(roster, settings, repository, border, listener, store, counters)
        signal.signal(signal.SIGTERM, lambda *_: loop.stop())
        gc.collect()
        gc.freeze()  # what is open stays: the collector need not look at it again between two runs
        border.report({"ready": roster.hello()})
        loop.run(border.lifeline)


def _open_models(
    config: dict[str, Any], settings: Settings, repository: Repository, tell: Tell
) -> list[tuple[EngineModel, bool]]:
    """Open the bundles of a configuration; say of each whether it is current."""
    places = places_of(config)
    current = [place for place, is_current in places if is_current]
    if not places and not config.get("is_restart", False):
        current = repository.newest()
    found = [(model, True) for model in open_engine_models(current, settings, tell)] if current else []
    for place in (place for place, is_current in places if not is_current):
        try:
            found.append((open_engine_model(read_served_bundle(place), settings, tell), False))
        except (BundleError, ServerStartError) as err:  # its streams are told; the others must not wait for it
            logger.warning("a version that was replaced is not opened again: %s", err)
    return found


def make_loop(
    roster: Roster,
    settings: Settings,
    repository: Repository,
    border: ChildBorder,
    listener: socket.socket,
    store: StreamStore,
    counters: Counters,
) -> EngineLoop:
    """Return the loop over an engine with these models and this store; the engine closes them."""
    current = [entry.model for entry in roster if entry.is_current]
    engine = StreamingEngine(
        Engine(current, EngineLimits.of(settings), counters=counters.own), store, StreamLimits.of(settings)
    )
    for entry in roster:
        if not entry.is_current:
            engine.add(entry.model)
            engine.prefer(entry.name, _key_of(roster.current(entry.name)))
    loader = ModelLoader(repository, settings, is_tried=settings.trial_limit_s > 0)
    loop = EngineLoop(
        engine,
        ModelDesk(engine, roster, loader, settings, counters.own.layout, border.report),
        listener,
        max_frame_bytes=max(settings.max_waiting_bytes, _GROWTH * settings.max_body_bytes) + _SLACK_BYTES,
        grace_s=settings.shutdown_grace_s,
        is_traced=settings.otel_endpoint is not None,
        order=engine.order,
        page=counters.own,
        beat_s=interval_s(settings.engine_hang_s),
    )
    engine.waker = loop.wake
    loader.waker = loop.look
    return loop


def _key_of(entry: Entry | None) -> str | None:
    return None if entry is None else entry.key


if __name__ == "__main__":
    sys.exit(child_main(serve_engine))
