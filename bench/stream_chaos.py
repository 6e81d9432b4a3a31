"""Streams while everything is killed: no answered chunk lost, none applied twice or crossed, all bits as in one pass.

    python bench/stream_chaos.py BUNDLE [--store sqlite|redis] [--redis-program redis-server] [--servers 1]
                                 [--streams 200] [--chunks 20] [--clients 16] [--kill-every 0.5] [--workers 2]
                                 [--rows 1] [--seed 0] [--json]

The long run: --streams 10000 --chunks 50. A real server with a durable store, or several that share one Redis; engines
and frontends are ended by kill -9, in turn, each time a moment after the servers have become ready again. A Redis is
ended likewise, stands still, cuts its connections, is full, or is a replica for a moment. Each client sends a chunk
until it is answered, to any of the servers, on a new connection where the old one broke; sometimes it goes away before
the answer, sends a chunk twice or to two servers at once, an old one again, or one too early. What the servers must
never do is a violation, with the exit status 1:

    to apply a chunk twice, another answer to a chunk that was answered before, a refusal of the chunk that is due,
    anything but 409 for one that is not due, and, at the end, a bit that one uninterrupted pass does not give
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
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from chaos_client import F32, HOST, PATIENCE_S, PAUSE_S, Client, Outcome, Plan, make_streams
from chaos_redis import RedisProcess
from numpy.typing import NDArray

from cellgate.bundle.reader import Bundle, read_bundle
from cellgate.serve.listeners import bind_listener
from cellgate.serve.models.served_model import parse_place
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.runtime.device_choice import open_runtime
from cellgate.serve.settings import Settings

SAY_EVERY_S = 10.0
LONGEST_HARM_S = 4.0  # longer than a server waits for its store


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
    with stored(plan, folder) as (store, redis), ExitStack() as servers:
        served = [servers.enter_context(serving(path, plan, store)) for _ in range(plan.servers)]
        ports = [port for _, port in served]
        work: queue.SimpleQueue[tuple[int | str, F32, list[int]]] = queue.SimpleQueue()
        for stream in make_streams(plan, _width(bundle)):
            work.put(stream)
        found: dict[int | str, list[bytes]] = {}

        def stream_on(number: int) -> None:
            client = Client(ports, bundle.manifest.name, plan, outcome, plan.seed * 1000 + number)
            with suppress(queue.Empty, SystemExit):
                while True:
                    name, x, edges = work.get_nowait()
                    found[name] = client.run(name, x, edges)
            client.close()

        clients = [threading.Thread(target=stream_on, args=(number,)) for number in range(plan.clients)]
        begun = time.monotonic()
        for client in clients:
            client.start()
        kill_in_turn(served, redis, plan, outcome, clients, lambda: len(found))
        outcome.seconds = time.monotonic() - begun
    check(bundle, plan, found, outcome)
    return outcome


def kill_in_turn(
    served: list[tuple[Supervisor, int]],
    redis: RedisProcess | None,
    plan: Plan,
    outcome: Outcome,
    clients: list[threading.Thread],
    finished: Callable[[], int],
) -> None:
    """Harm one after the other until all clients are done; say now and then how far they are."""
    say_s = time.monotonic() + SAY_EVERY_S
    dice = random.Random(plan.seed)  # noqa: S311 - likewise
    harms = {} if redis is None else redis.harms
    targets = [what for harm in harms or [""] for what in ("engine killed", "frontend killed", harm) if what]
    for target in itertools.cycle(targets):
        pause_until_s = time.monotonic() + plan.kill_every_s
        for client in clients:
            client.join(max(0.0, pause_until_s - time.monotonic()))
        while any(client.is_alive() for client in clients) and not all(_is_ready(port) for _, port in served):
            time.sleep(PAUSE_S)
        if not any(client.is_alive() for client in clients):
            return
        supervisor, _ = dice.choice(served)
        pids = [supervisor.engine_pid] if target == "engine killed" else list(supervisor.frontend_pids)
        if target in harms:
            harms[target](LONGEST_HARM_S)
        elif pids and (pid := dice.choice(pids)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        outcome.count(f"harm: {target}")
        if time.monotonic() >= say_s:
            say_s += SAY_EVERY_S
            harmed = sum(count for what, count in outcome.counts.items() if what.startswith("harm"))
            done = f"{finished():,} of {plan.streams:,} streams done"
            print(f"{done}, {harmed} harms, {len(outcome.violations)} violations", file=sys.stderr)


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
    redis = RedisProcess(folder, plan.seed, plan.redis_program)
    try:
        redis.start()
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
    parser.add_argument("--redis-program", default="redis-server", metavar="PROGRAM", help="or valkey-server")
    sizes = {"servers": 1, "streams": 200, "chunks": 20, "clients": 16, "workers": 2, "rows": 1, "seed": 0}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--kill-every", type=float, default=0.5, metavar="S")
    parser.add_argument("--json", action="store_true")
    given = vars(parser.parse_args())
    if given["servers"] > 1 and given["store"] != "redis":
        parser.error("--servers: expected 1 over SQLite, which one server holds; use --store redis")
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
