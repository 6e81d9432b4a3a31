"""The engine's process: opens the bundles, proves them, and serves frontends until it is told to stop.

    python -m cellgate.serve.processes.engine_child    started by the supervisor, see `child_border`

Rules of this file: composition only. A fault that nobody foresaw ends the process: the supervisor starts the next one.
"""

import gc
import signal
import socket
import sys
from typing import Any, Final

from ..counter_page import Counters
from ..engine.engine import Engine, EngineLimits
from ..engine.models import EngineModel, open_engine_models
from ..operation_log import operation_logging
from ..settings import Settings
from ..streams.limits import StreamLimits
from ..streams.store import StreamStore
from ..streams.store_choice import open_store
from ..streams.streaming_engine import StreamingEngine
from .child_border import ChildBorder, places_of, run_child, settings_of
from .counter_files import counters_of
from .engine_loop import EngineLoop
from .frames import Kind, pack_json
from .hang_watch import interval_s
from .hello import make_hello
from .tensor_frames import ModelCodec

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
    models = open_engine_models(places_of(config), settings)
    store = open_store(settings, is_restart=config.get("is_restart", False))
    plans = [model.plan_line(settings) for model in models]
    hello = make_hello([model.served for model in models], plans, store.line)
    counters = counters_of(config, [model.served.name for model in models])
    with socket.socket(fileno=config["listener"]) as listener:
        loop = make_loop(models, settings, hello, listener, store, counters)
        signal.signal(signal.SIGTERM, lambda *_: loop.stop())
        gc.collect()
        gc.freeze()  # what is open stays: the collector need not look at it again between two runs
        border.report({"ready": hello})
        loop.run(border.lifeline)


def make_loop(
    models: list[EngineModel],
    settings: Settings,
    hello: dict[str, Any],
    listener: socket.socket,
    store: StreamStore,
    counters: Counters,
) -> EngineLoop:
    """Return the loop over an engine with these models and this store; the engine closes them."""
    engine = StreamingEngine(
        Engine(models, EngineLimits.of(settings), counters=counters.own), store, StreamLimits.of(settings)
    )
    codecs = [ModelCodec(index, model.served.name, model.served.manifest.graph) for index, model in enumerate(models)]
    loop = EngineLoop(
        engine,
        codecs,
        pack_json(Kind.HELLO, 0, hello),
        listener,
        max_frame_bytes=max(settings.max_waiting_bytes, _GROWTH * settings.max_body_bytes) + _SLACK_BYTES,
        grace_s=settings.shutdown_grace_s,
        is_traced=settings.otel_endpoint is not None,
        order=engine.order,
        page=counters.own,
        beat_s=interval_s(settings.engine_hang_s),
    )
    engine.waker = loop.wake
    return loop


def main() -> int:
    """Run this process; SIGINT is the supervisor's to judge, and SIGHUP, which may mean new keys, is the frontends'."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return run_child(ChildBorder.of_this_process(), serve_engine)


if __name__ == "__main__":
    sys.exit(main())
