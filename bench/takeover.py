"""What a change of versions costs those who ask meanwhile: latencies before, while a bundle is opened, and after.

    python bench/takeover.py BUNDLE [--times 5] [--connections 8] [--steps 20] [--seconds 3]

Beside it: seconds and memory of the trial of each new version. CELLGATE_TRIAL_LIMIT_S=0 shows a server without trials.

A copy of the bundle with another version is made, a server is started with both in its repository, and clients ask it
without a pause over connections that are kept. Then one version takes over from the other, several times. Every answer
must be a 200 and name the version that it was asked under or the one that took over; nothing may be lost. Exit 1 where
something was.
"""

import argparse
import json
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table
from served import HOST, Server, children_of, resident_mib, role_of, serving

from cellgate.bundle.manifest_json import manifest_to_json
from cellgate.bundle.reader import read_bundle

WHEN: Final = ("before", "meanwhile", "after")


@dataclass(slots=True)
class Seen:
    """What the clients of one connection saw: latencies by `WHEN`, versions, and what was wrong."""

    latencies_s: dict[str, list[float]] = field(default_factory=lambda: {when: [] for when in WHEN})
    versions: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


class Client(threading.Thread):
    """Asks without a pause until it is told to end."""

    def __init__(self, port: int, path: str, body: bytes) -> None:
        super().__init__(daemon=True)
        self.seen, self.when, self.is_over = Seen(), WHEN[0], False
        self._port, self._path, self._body = port, path, body

    def run(self) -> None:
        """Ask; a connection that breaks is a violation, and the end."""
        connection = HTTPConnection(HOST, self._port, timeout=60)
        try:
            while not self.is_over:
                begun_s, when = time.perf_counter(), self.when
                connection.request("POST", self._path, self._body)
                response = connection.getresponse()
                found = json.loads(response.read())
                self.seen.latencies_s[when].append(time.perf_counter() - begun_s)
                if response.status != 200:
                    self.seen.wrong.append(f"{response.status}: {found}")
                else:
                    self.seen.versions.add(found["model_version"])
        except OSError as err:
            self.seen.wrong.append(f"a request was lost: {err or type(err).__name__}")
        finally:
            connection.close()


class TrialWatch(threading.Thread):
    """Looks a hundred times a second for a trial of the engine, and what it takes.

    Attributes:
        seen_s: moments of the first and the last look at each trial.
        most_mib: resident memory of the largest one, and what of it belongs to no file that others use too.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.seen_s: dict[int, tuple[float, float]] = {}
        self.most_mib = (0.0, 0.0)
        self.is_over = False
        self._engines = [pid for pid, role in server.pids.items() if role == "engine_child"]

    def run(self) -> None:
        """Look until it is told to end."""
        while not self.is_over:
            for pid in (child for engine in self._engines for child in children_of(engine)):
                if role_of(pid) == "trial_child":
                    now_s = time.monotonic()
                    self.seen_s[pid] = (self.seen_s.get(pid, (now_s,))[0], now_s)
                    self.most_mib = max(self.most_mib, (resident_mib(pid), resident_mib(pid, "RssAnon")))
            time.sleep(0.01)

    def line(self) -> str:
        """Return it in words."""
        took_s = [last_s - first_s for first_s, last_s in self.seen_s.values()]
        if not took_s:
            return "no trial was seen"
        whole, own = self.most_mib
        counted = f"{len(took_s)} trials of {min(took_s):.2f} to {max(took_s):.2f} s"
        return f"{counted}, up to {whole:.0f} MiB, {own:.0f} without the files that others map too"


def copy_as(bundle: str, folder: Path, version: int) -> Path:
    """Write the bundle once more, under another version; its digests stay right, for no other file changes."""
    path = folder / f"version-{version}"
    shutil.copytree(bundle, path)
    manifest = replace(read_bundle(Path(bundle)).manifest, version=version)
    (path / "manifest.json").write_bytes(manifest_to_json(manifest))
    return path


def request_of(bundle: str, steps: int) -> bytes:
    """Return a request of one row."""
    graph = read_bundle(Path(bundle)).manifest.graph
    spec = next(spec for spec in graph.inputs if spec.name == graph.sequence)
    size = [1, steps, *(axis for axis in spec.shape[2:] if isinstance(axis, int))]
    if np.issubdtype(np.dtype(spec.dtype), np.integer):
        tensor = {"name": spec.name, "shape": size, "datatype": "INT64", "data": [0] * steps}
    else:
        values = np.random.default_rng(0).normal(size=size).round(3)
        tensor = {"name": spec.name, "shape": size, "datatype": "FP32", "data": values.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def load(port: int, name: str, version: int) -> float:
    """Have a version take over; return the seconds until it had."""
    connection = HTTPConnection(HOST, port, timeout=300)
    begun_s = time.perf_counter()
    body = json.dumps({"parameters": {"version": version}})
    connection.request("POST", f"/v2/repository/models/{name}/load", body)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        sys.exit(f"load: expected 200, found {response.status}: {answer!r}")
    connection.close()
    return time.perf_counter() - begun_s


def ms(values: Sequence[float], percent: float) -> str:
    """Return a percentile in milliseconds."""
    return f"{1e3 * float(np.percentile(values, percent)):.2f}" if values else "-"


def measure(bundle: str, plan: argparse.Namespace, console: Console) -> list[str]:
    """Change versions under load; print what was seen, and return what was wrong."""
    with TemporaryDirectory(prefix="takeover-") as scratch:
        folder = Path(scratch)
        name = read_bundle(Path(bundle)).manifest.name
        for version in range(1, plan.times + 2):
            copy_as(bundle, folder, version)
        options = ("--repository", scratch, "--control", "--control-port", "0", "--no-grpc")
        with serving(str(folder / "version-1"), options=options) as server:
            body = request_of(bundle, plan.steps)
            clients = [Client(server.port, f"/v2/models/{name}/infer", body) for _ in range(plan.connections)]
            watch = TrialWatch(server)
            for thread in (watch, *clients):
                thread.start()
            took_s = []
            for version in range(2, plan.times + 2):
                for when in WHEN:
                    for client in clients:
                        client.when = when
                    if when == "meanwhile":
                        took_s.append(load(server.control_port, name, version))
                    else:
                        time.sleep(plan.seconds)
            back_s = load(server.control_port, name, 1)
            for client in clients:
                client.is_over = True
            watch.is_over = True
            for thread in (watch, *clients):
                thread.join()
    show(clients, took_s, back_s, console)
    console.print(watch.line())
    wrong = [text for client in clients for text in client.seen.wrong]
    versions = set().union(*(client.seen.versions for client in clients))
    missing = {str(version) for version in range(1, plan.times + 2)} - versions
    return [*wrong, *(f"version {version} never answered" for version in missing)]


def show(clients: Sequence[Client], took_s: Sequence[float], back_s: float, console: Console) -> None:
    """Print the table."""
    table = Table(title="latency of requests while versions change, ms")
    for word in ("", "requests", "p50", "p99", "longest"):
        table.add_column(word, justify="right" if word else "left")
    for when in WHEN:
        values = [value for client in clients for value in client.seen.latencies_s[when]]
        table.add_row(when, f"{len(values):,}", ms(values, 50), ms(values, 99), ms(values, 100))
    console.print(table)
    console.print(f"a version took over in {min(took_s):.2f} to {max(took_s):.2f} s; going back took {back_s:.3f} s")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0)
    plan = parser.parse_args()
    console = Console()
    wrong = measure(plan.bundle, plan, console)
    for text in wrong[:10]:
        console.print(f"violation: {text}")
    console.print(f"violations: {len(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
