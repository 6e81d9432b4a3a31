"""Streams while everything is killed: no answered chunk lost, none applied twice or crossed, all bits as in one pass.

    python bench/stream_chaos.py BUNDLE [--store sqlite|redis] [--streams 200] [--chunks 20] [--clients 16]
                                 [--kill-every 0.5] [--workers 2] [--rows 1] [--seed 0] [--json]

The long run: --streams 10000 --chunks 50. A real server with a durable store; engine, frontends and, where it is Redis,
the store are ended by kill -9, in turn, each time a moment after the server has become ready again. Each client sends a
chunk until it is answered, on a new connection where the old one broke; sometimes it goes away before the answer, sends
a chunk twice, an old one again, or one too early. What the server must never do is a violation, with the exit status 1:

    another answer to a chunk that was answered before, a refusal of the chunk that is due, anything but 409 for one
    that is not due, and, at the end, a bit that one uninterrupted pass over the same sequence does not give
"""

import argparse
import http.client
import itertools
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from chaos_client import F32, HOST, PATIENCE_S, PAUSE_S, Client, Outcome, Plan, make_streams
from numpy.typing import NDArray

from cellgate.bundle.reader import Bundle, read_bundle
from cellgate.serve.device_choice import open_runtime
from cellgate.serve.listeners import bind_listener
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.served_model import parse_place
from cellgate.serve.settings import Settings

SAY_EVERY_S = 10.0


class RedisProcess:
    """A Redis server of one's own, that waits for its disk before it answers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder}/redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it listens a moment later."""
        options = ["--port", "0", "--unixsocket", f"{self._folder}/redis.sock", "--dir", str(self._folder)]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen(["redis-server", *options, *durable], stdout=subprocess.DEVNULL)
        while not self._is_there():
            time.sleep(PAUSE_S)

    def kill(self) -> None:
        """End it now, and leave what it had on the disk."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _is_there(self) -> bool:
        import redis  # noqa: PLC0415 - only where it is asked for

        with suppress(redis.RedisError), redis.Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False


def check(bundle: Bundle, plan: Plan, found: Mapping[int | str, list[bytes]], outcome: Outcome) -> None:
    """Hold every stream against one uninterrupted pass over its sequence."""
    runtime = open_runtime(bundle, device="cpu", threads=1)
    graph = bundle.manifest.graph
    inputs = {spec.name: spec for spec in graph.inputs}
    for name, x, edges in make_streams(plan, _width(bundle)):
        B, T = x.shape[:2]
        feeds: dict[str, NDArray[Any]] = {"x": x}
        if graph.lengths is not None:
            feeds[graph.lengths] = np.full(B, T, np.int32)
        for pair in graph.state:
            shape = [B if axis == "B" else axis for axis in inputs[pair.input].shape]
            feeds[pair.input] = np.zeros(shape, inputs[pair.input].dtype)
        y = runtime.run(feeds)["y"]
        if name not in found:
            outcome.violate(f"stream {name}: expected {len(edges) - 1} answers, found an unfinished stream")
        elif y.ndim == 3:
            expected = [y[:, begin:end].tobytes() for begin, end in itertools.pairwise(edges)]
            if found[name] != expected:
                outcome.violate(f"stream {name}: expected the bits of one pass, found others")
        elif found[name][-1] != y.tobytes():
            outcome.violate(f"stream {name}: expected the bits of one pass, found others")
    runtime.close()


def run(path: str, plan: Plan, folder: Path) -> Outcome:
    """Serve a bundle, stream, kill, and check."""
    bundle, outcome = read_bundle(Path(path)), Outcome()
    with stored(plan, folder) as (store, redis), serving(path, plan, store) as (supervisor, port):
        work: queue.SimpleQueue[tuple[int | str, F32, list[int]]] = queue.SimpleQueue()
        for stream in make_streams(plan, _width(bundle)):
            work.put(stream)
        found: dict[int | str, list[bytes]] = {}

        def stream_on(number: int) -> None:
            client = Client(port, bundle.manifest.name, plan, outcome, plan.seed * 1000 + number)
            with suppress(queue.Empty, SystemExit):
                while True:
                    name, x, edges = work.get_nowait()
                    found[name] = client.run(name, x, edges)
            client.close()

        clients = [threading.Thread(target=stream_on, args=(number,)) for number in range(plan.clients)]
        begun = time.monotonic()
        for client in clients:
            client.start()
        kill_in_turn(supervisor, port, redis, plan, outcome, clients, lambda: len(found))
        outcome.seconds = time.monotonic() - begun
    check(bundle, plan, found, outcome)
    return outcome


def kill_in_turn(
    supervisor: Supervisor,
    port: int,
    redis: RedisProcess | None,
    plan: Plan,
    outcome: Outcome,
    clients: list[threading.Thread],
    finished: Callable[[], int],
) -> None:
    """Kill one after the other until all clients are done; say now and then how far they are."""
    say_s = time.monotonic() + SAY_EVERY_S
    dice = random.Random(plan.seed)  # noqa: S311 - likewise
    for target in itertools.cycle(["engine", "frontend", *(["store"] if redis else [])]):
        pause_until_s = time.monotonic() + plan.kill_every_s
        for client in clients:
            client.join(max(0.0, pause_until_s - time.monotonic()))
        while any(client.is_alive() for client in clients) and not _is_ready(port):
            time.sleep(PAUSE_S)
        if not any(client.is_alive() for client in clients):
            return
        pids = [supervisor.engine_pid] if target == "engine" else list(supervisor.frontend_pids)
        if target == "store" and redis is not None:
            redis.kill()
            time.sleep(dice.random() * plan.kill_every_s / 4)
            redis.start()
        elif pids and (pid := dice.choice(pids)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        outcome.count(f"killed: {target}")
        if time.monotonic() >= say_s:
            say_s += SAY_EVERY_S
            kills = sum(count for what, count in outcome.counts.items() if what.startswith("killed"))
            done = f"{finished():,} of {plan.streams:,} streams done"
            print(f"{done}, {kills} kills, {len(outcome.violations)} violations", file=sys.stderr)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def stored(plan: Plan, folder: Path) -> Iterator[tuple[str, RedisProcess | None]]:
    """Provide the store."""
    if plan.store == "sqlite":
        yield f"sqlite:{folder}/streams.sqlite", None
        return
    redis = RedisProcess(folder)
    redis.start()
    try:
        yield redis.url, redis
    finally:
        redis.kill()


@contextmanager
def serving(path: str, plan: Plan, store: str) -> Iterator[tuple[Supervisor, int]]:
    """Run a server in a thread."""
    settings = Settings(
        device="cpu", threads=1, port=0, workers=plan.workers, stream_store=store, max_streams=plan.streams + 100
    )
    listener = bind_listener(HOST, 0)
    port = listener.getsockname()[1]
    supervisor, up = Supervisor([parse_place(path)], settings, listener), threading.Event()
    thread = threading.Thread(target=lambda: supervisor.run(lambda _hello: up.set()))
    thread.start()
    try:
        if not up.wait(PATIENCE_S):
            raise SystemExit("the server did not start")
        yield supervisor, port
    finally:
        supervisor.stop()
        thread.join()


def _width(bundle: Bundle) -> int:
    (spec,) = [spec for spec in bundle.manifest.graph.inputs if spec.name == bundle.manifest.graph.sequence]
    if spec.name != "x" or not bundle.manifest.streamable:
        raise SystemExit(f"{bundle.manifest.name}: expected a streamable network over x, found another")
    return int(spec.shape[2])


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    for name, default in (("streams", 200), ("chunks", 20), ("clients", 16), ("workers", 2), ("rows", 1), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--kill-every", type=float, default=0.5, metavar="S")
    parser.add_argument("--json", action="store_true")
    given = vars(parser.parse_args())
    bundle, as_json, kill_every_s = given.pop("bundle"), given.pop("json"), given.pop("kill_every")
    folder = Path(tempfile.mkdtemp(prefix="cellgate-chaos-"))
    try:
        outcome = run(bundle, Plan(**given, kill_every_s=kill_every_s), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {"seconds": round(outcome.seconds, 1), **dict(sorted(outcome.counts.items()))}
    if as_json:
        print(json.dumps({**result, "violations": outcome.violations}))
    else:
        for what, count in result.items():
            print(f"{what:>24} {count}")
        for violation in outcome.violations[:20]:
            print(f"violation: {violation}")
        print(f"{'violations':>24} {len(outcome.violations)}")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(_main())
