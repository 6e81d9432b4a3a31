"""Real servers on durable stores while engine, frontends and store come to harm, as `bench/stream_chaos.py` does it.

No answered chunk lost, none applied twice, none crossed, every bit as in one pass.
"""

import importlib
import itertools
import shutil
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def chaos():
    bench = str(ROOT / "bench")
    sys.path.insert(0, bench)
    try:
        yield importlib.import_module("stream_chaos")
    finally:
        sys.path.remove(bench)


@pytest.mark.tree
@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "streams"),
    [("sqlite", 200), ("redis-server", 200), ("valkey-server", 60)],  # the last speaks as Redis does
    ids=["sqlite", "redis-server", "valkey-server"],
)
def test_streams_lose_nothing_whoever_is_killed(chaos, bundle_paths, tmp_path_factory, program, streams):
    if program != "sqlite" and shutil.which(program) is None:
        pytest.skip(f"the system's package {program} is not installed")
    shared = {} if program == "sqlite" else {"store": "redis", "redis_program": program, "servers": 2}
    plan = chaos.Plan(**shared, streams=streams, chunks=20, kill_every_s=1.0, rows=2)

    outcome = chaos.run(str(bundle_paths["steps"]), plan, tmp_path_factory.mktemp("chaos"))

    assert outcome.violations == []
    assert outcome.counts["applied"] + outcome.counts["replayed"] >= 20 * streams
    assert outcome.counts["harm: engine killed"] >= 1


@pytest.mark.tree
def test_the_checks_can_fail(chaos, bundles):
    """Bits of another sequence, a stream that never ended."""
    plan, outcome = chaos.Plan(streams=2, chunks=3), chaos.Outcome()
    (first, x, edges), (second, _, _) = chaos.make_streams(plan, 2)
    runtime = chaos.open_runtime(bundles["steps"], device="cpu", threads=1)
    zero = chaos.np.zeros((1, 1, 3), "float32")
    y = runtime.run({"x": x, "lengths": chaos.np.full(1, x.shape[1], "int32"), "h0": zero, "c0": zero})["y"]
    runtime.close()
    good = [y[:, begin:end].tobytes() for begin, end in itertools.pairwise(edges)]

    chaos.check(bundles["steps"], plan, {first: good, second: good}, outcome)
    assert outcome.violations == [f"stream {second}: expected the bits of one pass, found others"]
    chaos.check(bundles["steps"], plan, {first: good}, outcome)
    assert outcome.violations[1:] == [f"stream {second}: expected 3 answers, found an unfinished stream"]
