"""The protocol's statistics, against what was sent."""

from datetime import UTC, datetime

import pytest

from cellgate.serve.engine.run_meter import RunMeter
from cellgate.serve.observe.counter_page import Counters
from cellgate.serve.observe.request_meter import RequestMeter
from cellgate.serve.observe.statistics import statistics_answer

NONE = {"count": 0, "ns": 0}
DURATIONS = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}


@pytest.fixture
def counters(served_models):
    return Counters.alone(list(served_models))


def one(counters, model, now_s=0.0, wall_s=0.0):
    (entry,) = statistics_answer([model], counters.read(), now_s, wall_s)["model_stats"]
    return entry


def test_of_a_model_that_nobody_asked_everything_is_zero(counters, served_models):
    entry = one(counters, served_models["steps"])

    assert (entry["name"], entry["version"]) == ("steps", "3")
    assert (entry["last_inference"], entry["inference_count"], entry["execution_count"]) == (0, 0, 0)
    assert entry["inference_stats"] == dict.fromkeys(DURATIONS, NONE)
    assert entry["batch_stats"] == []


def test_counts_are_exact_and_durations_are_nanoseconds(counters, served_models):
    for protocol in ("http", "grpc"):
        meter = RequestMeter(counters.own, counters.own.layout.model("steps"), protocol)
        meter.answered(200, 0.010, 0.001, 0.002)
        meter.answered(400, 0.003, 0.0005)
    runs = RunMeter(counters.own, "steps")
    runs.begun([0.004, 0.005])
    runs.ran(2, 6, 8, begun_s=100.0, seconds=0.5)
    runs.ran(1, 2, 2, begun_s=101.0, seconds=0.25)
    runs.ran(2, 4, 4, begun_s=102.0, seconds=0.5)
    runs.answered(3)

    entry = one(counters, served_models["steps"], now_s=110.0, wall_s=2000.0)

    assert entry["inference_count"] == 3
    assert entry["execution_count"] == 3
    assert entry["last_inference"] == round(1000 * (2000.0 - 110.0 + 102.5))
    assert entry["inference_stats"] == {
        "success": {"count": 2, "ns": 20_000_000},
        "fail": {"count": 2, "ns": 6_000_000},
        "queue": {"count": 2, "ns": 9_000_000},
        "compute_input": {"count": 2, "ns": 3_000_000},
        "compute_infer": {"count": 2, "ns": 1_250_000_000},
        "compute_output": {"count": 2, "ns": 4_000_000},
        "cache_hit": NONE,
        "cache_miss": NONE,
    }
    assert [(batch["batch_size"], batch["compute_infer"]) for batch in entry["batch_stats"]] == [
        (1, {"count": 1, "ns": 250_000_000}),
        (2, {"count": 2, "ns": 1_000_000_000}),
    ]


async def test_they_agree_with_what_was_sent(connect, post, make_request, make_network):
    feeds = make_network("steps").feeds(3, 5, [5, 1, 3])
    ask = make_request({name: feeds[name] for name in ("x", "lengths")})
    before = datetime.now(UTC).timestamp()
    async with connect() as client:
        for _ in range(5):
            assert (await post(client, ask)).status_code == 200
        assert (await post(client, b"[]")).status_code == 400
        found = [
            (await client.get(path)).json()
            for path in ("/v2/models/stats", "/v2/models/steps/stats", "/v2/models/steps/versions/3/stats")
        ]
        engine = await client.engine.statistics()
    after = datetime.now(UTC).timestamp()

    everything, steps, version = (answer["model_stats"] for answer in found)
    assert [entry["name"] for entry in everything] == ["steps", "last", "tokens"]
    moments = [answer[0].pop("last_inference") for answer in (everything, steps, version)]
    assert steps == version == everything[:1]
    (entry,) = steps
    stats = entry["inference_stats"]
    assert entry["inference_count"] == 15
    assert entry["execution_count"] == engine["models"]["steps"]["runs"]
    assert (stats["success"]["count"], stats["fail"]["count"], stats["queue"]["count"]) == (5, 1, 5)
    assert {stats[f"compute_{part}"]["count"] for part in ("input", "infer", "output")} == {5}  # clients rely on it
    assert sum(batch["compute_infer"]["count"] for batch in entry["batch_stats"]) == entry["execution_count"]
    assert stats["compute_infer"]["ns"] == pytest.approx(1e9 * engine["models"]["steps"]["run_s"], rel=1e-6)
    assert (
        sum(batch["batch_size"] * batch["compute_infer"]["count"] for batch in entry["batch_stats"])
        == (engine["models"]["steps"]["rows"])
    )
    assert 0 < stats["queue"]["ns"] + stats["compute_infer"]["ns"] < stats["success"]["ns"]
    for moment in moments:  # whole milliseconds, from the difference of two clocks that are read one after the other
        assert before - 0.1 <= moment / 1000 <= after + 0.1
    assert everything[1]["inference_count"] == 0


@pytest.mark.parametrize("path", ["/v2/models/nope/stats", "/v2/models/steps/versions/4/stats"])
async def test_what_is_not_served_has_none(connect, path):
    async with connect() as client:
        response = await client.get(path)

    assert (response.status_code, response.json()["code"]) == (404, "unknown_model")
