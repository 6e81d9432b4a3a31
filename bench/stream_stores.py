"""What durability costs: chunks of streams a second with each store, in turns in one process, without HTTP.

    python bench/stream_stores.py [--bundle BUNDLE] [--stores memory sqlite redis] [--streams 64] [--chunk-steps 16]
                                  [--turns 3] [--seconds 3] [--folder DIR] [--json]

The medium workload of `workloads.py`, whose bundle is made where it is missing. So many streams are on their way at
once; each sends its sequence in chunks, every one with its step, and the next when the last was answered. HTTP would
add the same time to each store and bring the ratios nearer to 1: this is the harder comparison. The goal is 0.5 of the
memory store's throughput. `--folder` says where the files lie: it is the disk that is measured.
"""

import argparse
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from chaos_redis import RedisProcess
from rich.console import Console
from rich.table import Table
from workloads import WORKLOADS, ensure_bundle

from cellgate.serve.arrays import Array
from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.models import EngineModel, open_engine_models
from cellgate.serve.engine.work import StreamAnswer, StreamRef, Work
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.settings import Settings
from cellgate.serve.streams.limits import StreamLimits
from cellgate.serve.streams.store import StreamStore
from cellgate.serve.streams.store_choice import open_store
from cellgate.serve.streams.streaming_engine import StreamingEngine

GOAL = 0.5


@dataclass(slots=True)
class Turn:
    """One turn of one store."""

    chunks: int = 0
    steps: int = 0
    seconds: float = 0.0
    commits: int = 0


class Counted:
    """A store that counts its commits."""

    def __init__(self, store: StreamStore) -> None:
        self._store = store
        self.commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, writes: Any) -> list[bool]:
        """Count and pass on."""
        self.commits += 1
        return self._store.commit(writes)


class KeptOpen:
    """A runtime that several engines use; none closes it."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def close(self) -> None:
        """Do nothing."""


class Way:
    """One store, and the streams over it."""

    def __init__(
        self, model: EngineModel, settings: Settings, sequences: list[Array], plan: argparse.Namespace
    ) -> None:
        self.store = Counted(open_store(settings))
        self._woken = threading.Event()
        engine = Engine([model], EngineLimits.of(settings))
        self._engine = StreamingEngine(engine, self.store, StreamLimits.of(settings))  # type: ignore[arg-type]
        self._engine.waker = self._woken.set
        self._model, self._plan = model, plan
        self._names = itertools.count(1)
        self._sequences = itertools.cycle(sequences)
        self._open: dict[int, Iterator[Work]] = {}

    def turn(self) -> Turn:
        """Stream for some seconds."""
        turn, begun, commits = Turn(), time.perf_counter(), self.store.commits
        while len(self._open) < self._plan.streams:
            self._begin()
        while time.perf_counter() - begun < self._plan.seconds:
            wait_s = self._engine.wait_s()
            if wait_s != 0.0:
                self._woken.wait(wait_s)
            self._woken.clear()
            for ticket, outcome in self._engine.run_once():
                if not isinstance(outcome, StreamAnswer):
                    raise SystemExit(f"expected an answer, found {outcome}")
                turn.chunks += 1
                assert isinstance(ticket, tuple)
                turn.steps += ticket[1]
                self._go_on(ticket[0])
        turn.seconds, turn.commits = time.perf_counter() - begun, self.store.commits - commits
        return turn

    def close(self) -> None:
        """End the engine and its store."""
        self._engine.close()

    def _begin(self) -> None:
        name, x = next(self._names), next(self._sequences)
        self._open[name] = self._chunks(name, x)
        self._go_on(name)

    def _go_on(self, name: int) -> None:
        work = next(self._open[name], None)
        if work is None:
            del self._open[name]
            self._begin()
        else:
            self._engine.submit((name, work.steps), work)

    def _chunks(self, name: int, x: Array) -> Iterator[Work]:
        graph, size = self._model.served.manifest.graph, self._plan.chunk_steps
        for step, begin in enumerate(range(0, len(x), size)):
            chunk = x[None, begin : begin + size]
            is_end = begin + size >= len(x)
            yield Work(
                model=self._model.served.name,
                sequence=chunk,
                lengths=np.array([chunk.shape[1]], np.int32),
                states=(None,) * len(graph.state),
                outputs=(graph.outputs[0].name,),
                stream=StreamRef(id=name, is_start=step == 0, is_end=is_end, step=step),
            )


def measure(plan: argparse.Namespace, folder: Path, opened: ExitStack) -> list[dict[str, Any]]:
    """Take turns and return a row for each store."""
    base = Settings(device="cpu", threads=1, max_streams=10**6, max_stream_bytes=2**30, stream_tombstone_s=5.0)
    (model,) = open_engine_models([BundlePlace(Path(plan.bundle))], base)
    opened.callback(model.runtime.close)
    model = replace(model, runtime=KeptOpen(model.runtime))
    sequences = [np.ascontiguousarray(x) for x in WORKLOADS["medium"].sequences(1000)]
    ways: dict[str, Way] = {}
    for store in plan.stores:
        where = {"memory": "memory", "sqlite": f"sqlite:{folder}/streams.sqlite"}.get(store)
        if where is None:
            redis = RedisProcess(folder)
            redis.start()
            opened.callback(redis.kill)
            where = redis.url
        ways[store] = Way(model, replace(base, stream_store=where), sequences, plan)
        opened.callback(ways[store].close)
    turns: dict[str, list[Turn]] = {store: [] for store in ways}
    for number in range(plan.turns + 1):
        for store in ways if number % 2 else reversed(ways):
            turn = ways[store].turn()
            if number:  # the first one warms up
                turns[store].append(turn)
    rates = {store: statistics.median(turn.chunks / turn.seconds for turn in found) for store, found in turns.items()}
    return [
        {
            "store": store,
            "chunks_per_s": round(rates[store]),
            "steps_per_s": round(statistics.median(turn.steps / turn.seconds for turn in turns[store])),
            "ratio": round(rates[store] / rates[plan.stores[0]], 3),
            "chunks_a_commit": round(sum(t.chunks for t in turns[store]) / sum(t.commits for t in turns[store]), 1),
        }
        for store in ways
    ]


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", help="default: that of the medium workload, in build/bench")
    parser.add_argument(
        "--stores", nargs="+", choices=("memory", "sqlite", "redis"), default=["memory", "sqlite", "redis"]
    )
    for name, default in (("streams", 64), ("chunk-steps", 16), ("turns", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", help="where the stores' files lie; default: a temporary folder")
    parser.add_argument("--json", action="store_true")
    plan = parser.parse_args()
    plan.bundle = plan.bundle or ensure_bundle(WORKLOADS["medium"], Path("build/bench"))
    folder = Path(tempfile.mkdtemp(prefix="cellgate-stores-", dir=plan.folder))
    try:
        with ExitStack() as opened:
            rows = measure(plan, folder, opened)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if plan.json:
        print(json.dumps(rows))
        return 0
    table = Table("store", "chunks/s", "steps/s", f"of {plan.stores[0]} (goal {GOAL})", "chunks a commit")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
