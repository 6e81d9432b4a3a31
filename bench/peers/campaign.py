"""The order of the measurements: which server runs when, and what is kept of it.

Rounds are interleaved, all servers in each, and every other round in reverse, so that a machine that changes its pace
disturbs all alike. Closed loops come first: half of the best peer's median rate is what the open loops offer to all.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from connection import LoadError
from environment import InstallError, programs_of, version_of
from load import Generator, ask
from load_run import Load
from numpy.typing import NDArray
from peers import PEERS, Peer
from results import Measurement, Row, best_rate, measure, middle
from server import ServerError, running

TOLERANCE: Final = 1e-4
"""Largest difference of a score from the sequence alone: float32, sums in another order in a padded batch; scores are
about 1. A wrong sequence, length or row is off by a thousand times that."""

MIN_OPEN_REQUESTS: Final = 1500
"""An open loop lasts until it has sent that many: a 99th percentile of a quarter of fewer is one request's luck."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What one workload sends.

    Attributes:
        name: of the workload.
        bundle: its folder.
        sequences: float32 [T, I] each.
        answers: float32 [count, 9], onnxruntime's to each alone.
    """

    name: str
    bundle: Path
    sequences: list[NDArray[np.float32]]
    answers: NDArray[np.float32]

    @property
    def lengths(self) -> list[int]:
        """T of each."""
        return [len(sequence) for sequence in self.sequences]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How long and how often.

    Attributes:
        connections: of the closed loop.
        warm_up_s, seconds: of each run.
        rounds: of each loop.
        open_loop: whether there is one.
        server_core, load_core: CPUs.
        work: folder of the peers' environments.
    """

    connections: int
    warm_up_s: float
    seconds: float
    rounds: int
    open_loop: bool
    server_core: int
    load_core: int
    work: Path


@dataclass(kw_only=True, slots=True)
class Campaign:
    """Runs a plan and keeps what it measured.

    Attributes:
        plan: see there.
        traffic: by workload.
        peers: names.
        versions: by peer, of those that are installed.
        whys: (peer, workload) -> why it is not measured any more; a workload of "" stands for all.
        closed, open: (peer, workload) -> its rounds.
        rates: workload -> requests a second of its open loop, None where there is none.
        notes: (peer, workload) -> what else was seen.
    """

    plan: Plan
    traffic: Sequence[Traffic]
    peers: Sequence[str]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    whys: dict[tuple[str, str], str] = field(default_factory=dict)
    closed: dict[tuple[str, str], list[Measurement]] = field(default_factory=dict)
    open: dict[tuple[str, str], list[Measurement]] = field(default_factory=dict)
    rates: dict[str, float | None] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)

    def install(self) -> None:
        """Install every peer; one that cannot be is a row that says why."""
        for name in self.peers:
            try:
                programs = programs_of(PEERS[name], self.plan.work)
                self.versions[name] = version_of(PEERS[name], programs)
            except InstallError as error:
                self.whys[name, ""] = f"cannot be installed: {error}"
                _say(f"{name}: {self.whys[name, '']}")

    def run(self, after_round: Callable[[], object]) -> None:
        """Run all rounds; ``after_round`` may write what there is so far."""
        for number in range(self.plan.rounds):
            self._round(number, self.closed, lambda generator, _: self._closed_loop(generator))
            after_round()
        for traffic in self.traffic:
            rate = best_rate(self.rows(traffic.name))
            self.rates[traffic.name] = rate / 2 if rate and self.plan.open_loop else None
        for number in range(self.plan.rounds if self.plan.open_loop else 0):
            self._round(number, self.open, self._open_loop_of(number))
            after_round()

    def rows(self, workload: str) -> list[Row]:
        """Return one row a server."""
        return [
            Row(
                server=name,
                closed=middle(self.closed.get((name, workload), [])),
                open=middle(self.open.get((name, workload), [])),
                remark=self.whys.get((name, "")) or self.whys.get((name, workload)) or self.notes.get((name, workload)),
            )
            for name in self.peers
        ]

    def _round(
        self,
        number: int,
        kept: dict[tuple[str, str], list[Measurement]],
        load: Callable[[Generator, Traffic], Load | None],
    ) -> None:
        names = list(self.peers) if number % 2 == 0 else list(self.peers)[::-1]
        for traffic in self.traffic:
            for name in names:
                if (name, "") in self.whys or (name, traffic.name) in self.whys:
                    continue
                self._measure(PEERS[name], traffic, load, kept)

    def _measure(
        self,
        peer: Peer,
        traffic: Traffic,
        load: Callable[[Generator, Traffic], Load | None],
        kept: dict[tuple[str, str], list[Measurement]],
    ) -> None:
        key = (peer.name, traffic.name)
        try:
            programs = programs_of(peer, self.plan.work)
            with running(
                peer, programs, traffic.bundle, self.plan.server_core, lambda port: _wrong(peer, traffic, port)
            ) as (port, remarks):
                done = load(Generator(port, requests_of(peer, traffic, port)), traffic)
            if done is None:
                return
            _check_all(peer, traffic, done)
        except (ServerError, LoadError) as error:
            self.whys[key] = str(error)
            _say(f"{traffic.name} {peer.name}: {error}")
            return
        if remarks:
            self.notes[key] = "; ".join(remarks)
        measured = measure(done, traffic.lengths)
        kept.setdefault(key, []).append(measured)
        _say(f"{traffic.name} {peer.name}: {_in_words(measured)}" + "".join(f"; {remark}" for remark in remarks))

    def _closed_loop(self, generator: Generator) -> Load:
        return generator.closed_loop(self.plan.connections, self.plan.warm_up_s, self.plan.seconds)

    def _open_loop_of(self, number: int) -> Callable[[Generator, Traffic], Load | None]:
        """Return the open loop of a round: every server sees the same arrivals in it, other ones in the next."""

        def run(generator: Generator, traffic: Traffic) -> Load | None:
            rate = self.rates[traffic.name]
            if rate is None:
                return None
            seconds = max(self.plan.seconds, MIN_OPEN_REQUESTS / rate)
            return generator.open_loop(rate, self.plan.warm_up_s, seconds, seed=number)

        return run


def requests_of(peer: Peer, traffic: Traffic, port: int) -> list[bytes]:
    """Return every sequence as a request to the peer."""
    wire = peer.wire.named(traffic.name)
    return [wire.request(sequence, port) for sequence in traffic.sequences]


def _wrong(peer: Peer, traffic: Traffic, port: int) -> str | None:
    """Ask for the shortest, the longest and the first sequence; return what is wrong with the answers, or None."""
    wire = peer.wire.named(traffic.name)
    for index in (int(np.argmin(traffic.lengths)), int(np.argmax(traffic.lengths)), 0):
        try:
            head, body = ask(port, wire.request(traffic.sequences[index], port))
            if not head.startswith(b"HTTP/1.1 200"):
                return f"{head.splitlines()[0].decode(errors='replace')} {body[:200].decode(errors='replace')}"
            found = wire.scores(head, body)
        except (LoadError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
            return f"{type(error).__name__}: {error}"
        if not _near(found, traffic.answers[index]):
            return f"sequence {index}: expected {traffic.answers[index].tolist()}, found {found.tolist()}"
    return None


def _check_all(peer: Peer, traffic: Traffic, load: Load) -> None:
    """Compare the last answer to each sequence with onnxruntime's.

    Raises:
        ServerError: one is wrong; the load's numbers are worth nothing.
    """
    wire = peer.wire.named(traffic.name)
    wrong = [i for i, answer in load.answers.items() if not _near(wire.scores(*answer), traffic.answers[i])]
    if wrong:
        raise ServerError(f"{len(wrong)} of {len(load.answers)} sequences were answered wrongly under load")


def _near(found: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return found.shape == right.shape and bool(np.all(np.abs(found - right) <= TOLERANCE))


def _in_words(measured: Measurement) -> str:
    values: dict[str, Any] = {
        "p99": measured.p99_s,
        "shortest": measured.p99_shortest_s,
        "longest": measured.p99_longest_s,
    }
    times = ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in values.items() if value is not None)
    faults = f", {measured.errors} errors, {measured.unanswered} unanswered" if measured.errors else ""
    return f"{measured.requests_s:,.0f} requests/s, {times}, generator {measured.busy:.0%}{faults}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
