"""A clock that stands, a runtime that adds, work for it, and an oracle that loops.

The adding runtime keeps the contract of `Runtime` and checks that the engine keeps its own. Its network adds up its
inputs, which are small whole numbers, so that every answer is exact whatever the order of rows, steps and chunks.
"""

from dataclasses import dataclass, field

import numpy as np

from cellgate.bundle.manifest import GraphSignature, Manifest, SessionOptions, StatePair, TensorSpec
from cellgate.serve.engine.cost_model import CostModel
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.models import EngineModel
from cellgate.serve.engine.work import Work
from cellgate.serve.models.served_model import ServedModel
from cellgate.serve.runtime.golden_check import GoldenResult
from cellgate.serve.runtime.runtime import RuntimeFacts

I = 2
FACTS = RuntimeFacts(device="cpu", provider="adding", threads=1, version="0", reason="asked for")
PROVED = GoldenResult(passed=True, cases=1, outputs=(), problems=())
OUTPUTS = ("y", "last", "total_n")


class ManualClock:
    """Stands until it is moved; `tick_s` passes at each look."""

    def __init__(self, now=1000.0, tick_s=0.0):
        self.now = now
        self.tick_s = tick_s

    def __call__(self):
        self.now += self.tick_s
        return self.now


@dataclass(frozen=True)
class Seen:
    """What a run was given: the first number of each row at each step, and how many steps of each row are real."""

    rows: tuple
    steps: int
    lengths: tuple


@dataclass
class AddingRuntime:
    """y: the sum of the steps so far; last: the sum after the last real step; total: the sum, carried as state.

    Attributes:
        ragged: whether the graph takes lengths.
        stateful: whether it takes and returns the sum.
        clock, cost: a run takes what the cost says, on this clock.
        fault: called with the feeds before each run; may raise.
        spoil: called with the outputs of each run; returns what to return instead.
        remembers: whether to keep what each run was given.
    """

    ragged: bool = True
    stateful: bool = True
    clock: ManualClock | None = None
    cost: CostModel | None = None
    fault: object = None
    spoil: object = None
    remembers: bool = True
    seen: list = field(default_factory=list)
    places: set = field(default_factory=set)
    runs: int = 0
    closed: int = 0

    def __post_init__(self):
        state = TensorSpec(name="total0", dtype="float32", shape=(1, "B", I))
        final = TensorSpec(name="total_n", dtype="float32", shape=(1, "B", I))
        lengths = TensorSpec(name="lengths", dtype="int32", shape=("B",))
        x = TensorSpec(name="x", dtype="float32", shape=("B", "T", I))
        y = TensorSpec(name="y", dtype="float32", shape=("B", "T", I))
        last = TensorSpec(name="last", dtype="float32", shape=("B", I))
        self.signature = GraphSignature(
            inputs=(x, *([lengths] if self.ragged else []), *([state] if self.stateful else [])),
            outputs=(y, last, *([final] if self.stateful else [])),
            sequence="x",
            lengths="lengths" if self.ragged else None,
            state=(StatePair(input="total0", output="total_n"),) if self.stateful else (),
        )
        self.facts = FACTS
        self.provider, self.device = FACTS.provider, FACTS.device

    def run(self, feeds):
        self.runs += 1
        self._check(feeds)
        x = feeds["x"]
        B, T, _ = x.shape
        lengths = feeds.get("lengths", np.full(B, T, np.int32))
        if self.remembers:
            self.seen.append(Seen(tuple(x[:, 0, 0].astype(int).tolist()), T, tuple(lengths.tolist())))
            self.places |= {name: array.__array_interface__["data"][0] for name, array in feeds.items()}.items()
        if self.fault is not None:
            self.fault(feeds)
        if self.clock is not None and self.cost is not None:
            self.clock.now += self.cost.seconds(B, T)
        real = np.arange(T) < lengths[:, None]
        begin = feeds["total0"][0] if self.stateful else np.zeros((B, I), np.float32)
        sums = begin[:, None] + np.cumsum(np.where(real[..., None], x, 0), axis=1, dtype=np.float32)
        found = {"y": np.where(real[..., None], sums, np.float32(0)), "last": sums[:, -1].copy()}
        if self.stateful:
            found["total_n"] = sums[None, :, -1].copy()
        return found if self.spoil is None else self.spoil(found)

    def close(self):
        self.closed += 1

    def _check(self, feeds):
        """The engine keeps what `Runtime.run` asks for."""
        assert not self.closed
        assert list(feeds) == [spec.name for spec in self.signature.inputs]
        B, T = feeds["x"].shape[:2]
        sizes = {"B": B, "T": T}
        assert B > 0
        assert T > 0
        for spec in self.signature.inputs:
            array = feeds[spec.name]
            assert array.dtype == spec.dtype
            assert array.shape == tuple(sizes.get(axis, axis) for axis in spec.shape)
            assert array.flags.c_contiguous
            assert np.isfinite(array).all()
        if self.ragged:
            assert feeds["lengths"].min() >= 1
            assert feeds["lengths"].max() == T


def linear_cost(run_s=2e-5, row_s=1e-6, step_s=4e-6, row_step_s=1e-6, max_rows=64):
    rows = np.arange(max_rows + 1)
    return CostModel(run_s=run_s, row_s=row_s, step_s=step_s + row_step_s * rows)


def manifest_of(name, signature, *, streamable):
    return Manifest(
        name=name,
        version=1,
        network={"kind": "sum"},
        graph=signature,
        opset=17,
        operators=(),
        streamable=streamable,
        bitwise_rows=True,
        bitwise_chunks=True,
        precision="float32",
        tolerances={},
        session=SessionOptions(),
        tools={},
        files={},
        labels=None,
        normalisation=None,
    )


def model_of(runtime, cost=None, name="sum", *, streamable=True):
    served = ServedModel(
        name=name,
        version="1",
        manifest=manifest_of(name, runtime.signature, streamable=streamable),
        digest="0" * 64,
        facts=runtime.facts,
        golden=PROVED,
        example={},
    )
    return EngineModel(served, runtime, cost or linear_cost())


def limits_of(**changes):
    usual = {
        "max_waiting": 4096,
        "max_waiting_bytes": 2**30,
        "max_lanes": 64,
        "run_limit_s": 0.004,
        "step_budget": 2**18,
    }
    return EngineLimits(**{**usual, **changes})


def work_of(
    *lengths, model="sum", first=None, outputs=OUTPUTS, states=False, seed=0, priority=0, deadline_s=None, steps=None
):
    """A work of whole numbers; what lies behind a row's length is 99, which shows where it is added.

    Args:
        first: the number at [row, :, 0] of every row, by which a run tells whose row it has; None for any numbers.
        states: whether it brings states; None for a network without any.
        steps: T, where the work is longer than its longest row.
    """
    values = np.random.default_rng(seed)
    B, T = len(lengths), steps or max(lengths)
    x = values.integers(-8, 9, size=(B, T, I)).astype(np.float32)
    if first is not None:
        x[:, :, 0] = first
    for row, length in enumerate(lengths):
        x[row, length:] = 99
    given = values.integers(-8, 9, size=(1, B, I)).astype(np.float32)
    return Work(
        model=model,
        sequence=x,
        lengths=np.array(lengths, np.int32),
        states=() if states is None else (given if states else None,),
        outputs=outputs,
        priority=priority,
        deadline_s=deadline_s,
    )


def sums_of(work):
    """The answer, row by row and step by step."""
    B, T, _ = work.sequence.shape
    found = {"y": np.zeros((B, T, I)), "last": np.zeros((B, I)), "total_n": np.zeros((1, B, I))}
    for row in range(B):
        total = np.zeros(I)
        if work.states and work.states[0] is not None:
            total = total + work.states[0][0, row]
        for t in range(int(work.lengths[row])):
            total = total + work.sequence[row, t]
            found["y"][row, t] = total
        found["last"][row] = found["total_n"][0, row] = total
    return {name: found[name].astype(np.float32) for name in work.outputs}


def same_answer(actual, expected):
    """Names in order, dtypes, shapes and bytes."""
    return list(actual) == list(expected) and all(
        actual[name].dtype == expected[name].dtype
        and actual[name].shape == expected[name].shape
        and actual[name].tobytes() == expected[name].tobytes()
        for name in expected
    )


def drain_engine(engine, clock, most=100_000):
    """Run until nothing waits; the clock moves on where a run is held."""
    results = []
    for _ in range(most):
        wait_s = engine.wait_s()
        if wait_s is None:
            return results
        clock.now += wait_s
        results += engine.run_once()
    raise AssertionError(f"the engine still has something to do after {most} turns: {engine.statistics()}")
