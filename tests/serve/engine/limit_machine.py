"""A runtime that moves its own clock, and what the tests of the limit and of its ways run on it."""

import numpy as np

from cellgate.bundle.manifest import GraphSignature, StatePair, TensorSpec
from cellgate.serve.engine.counting_runtime import CountingRuntime
from cellgate.serve.engine.limit import make_sequences, make_works
from cellgate.serve.engine.limit_ways import LanesWay
from cellgate.serve.errors import EngineError
from cellgate.serve.runtime.runtime import RuntimeFacts


def spec(name, dtype, *shape):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def signature_of(*, lengths="lengths", tokens=False):
    sequence = spec("tokens", "int64", "B", "T") if tokens else spec("x", "float32", "B", "T", 2)
    inputs = (sequence, *((spec("lengths", "int32", "B"),) if lengths else ()), spec("h0", "float32", 1, "B", 3))
    return GraphSignature(
        inputs=inputs,
        outputs=(spec("y", "float32", "B", 4), spec("h_n", "float32", 1, "B", 3)),
        sequence=sequence.name,
        lengths=lengths,
        state=(StatePair(input="h0", output="h_n"),),
        vocabulary_size=5 if tokens else None,
    )


class Machine:
    """A runtime and its clock: a run takes 0.01 s, and 0.001 s a row and step, padded ones included."""

    def __init__(self, signature):
        self.signature = signature
        self.facts = RuntimeFacts(device="cpu", provider="fake", threads=1, version="0", reason="asked for")
        self.provider, self.device, self.closed = "fake", "cpu", False
        self.runs = []
        self.now = 0.0

    def clock(self):
        return self.now

    def run(self, feeds):
        assert set(feeds) == {tensor.name for tensor in self.signature.inputs}
        rows, steps = feeds[self.signature.sequence].shape[:2]
        assert feeds["h0"].shape == (1, rows, 3)
        self.runs.append({name: array.copy() for name, array in feeds.items()})
        self.now += 0.01 + 0.001 * rows * steps
        return {}

    def close(self):
        self.closed = True


class OneAtATime:
    """Keeps what this folder needs of the engine: runs the oldest work whole."""

    def __init__(self, runtime, *, fails=False, waits=()):
        self.runtime, self.fails, self.waits = runtime, fails, list(waits)
        self.works = {}
        self.most = 0

    def submit(self, ticket, work):
        assert ticket not in self.works
        self.works[ticket] = work
        self.most = max(self.most, len(self.works))

    def run_once(self):
        if self.waits:
            return []
        ticket, work = next(iter(self.works.items()))
        del self.works[ticket]
        state = np.zeros((1, 1, 3), np.float32)
        self.runtime.run({"x": work.sequence, "lengths": work.lengths, "h0": state})
        return [(ticket, EngineError("broken") if self.fails else {})]

    def wait_s(self):
        return self.waits.pop() if self.waits else 0.0


def sequences_of(machine, *lengths):
    return make_sequences(machine.signature, np.array(lengths), 0)


def lanes_of(machine, rows, **more):
    counting = CountingRuntime(machine)
    engine = OneAtATime(counting, **more)
    return engine, LanesWay(engine, counting, make_works("m", machine.signature, rows), machine.clock)
