"""What a scrape says, read by the parsers of prometheus_client, and by promtool where it is installed."""

import asyncio
import shutil
import subprocess
from dataclasses import replace

import anyio
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cellgate.serve.engine.run_meter import RunMeter
from cellgate.serve.errors import EngineLost, QueueFull
from cellgate.serve.observe import observation
from cellgate.serve.observe.counter_layout import (
    CODES,
    ENGINE_RESTARTS,
    FRONTEND_RESTARTS,
    PROTOCOLS,
    REQUEST_S,
    REQUESTS,
    RUN_S_OF_ROWS,
    SECONDS,
    STEPS,
)
from cellgate.serve.observe.counter_page import Counters
from cellgate.serve.observe.metrics import ServerView, render_metrics
from cellgate.serve.observe.process_facts import ProcessFacts
from cellgate.serve.observe.request_meter import RequestMeter, RequestMeters

TEXT = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
OPEN = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
HOSTILE = 'a"} 1\n# TYPE x\\y{z="'


@pytest.fixture
def counters(served_models):
    return Counters.alone(list(served_models))


def view(counters, models=(), **more):
    facts = {"engine": ProcessFacts(cpu_s=1.5, rss_bytes=2**20, open_files=7)}
    return ServerView(
        **{"models": models, "reading": counters.read(), "engine": None, "is_ready": True, "processes": facts, **more}
    )


def samples(text, parse=parse_text):
    """Samples by name and labels; a name that stands twice is a fault."""
    found = {}
    for family in parse(text.decode() if isinstance(text, bytes) else text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def at(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


def names_of(found):
    return {name for name, _ in found}


def test_counts_of_requests_stand_under_model_protocol_and_code(counters):
    meters = RequestMeters(counters.own)
    meters.of("steps").answered(200, 0.0002)
    meters.of("steps").answered(200, 0.3)
    meters.of("last").answered(503, 0.01)
    meters.of("last").answered(418, 0.01)
    RequestMeters(counters.own, "grpc").of("steps").answered(200, 100.0)

    found = samples(render_metrics(view(counters), TEXT)[0])

    def count(model, code, protocol="http"):
        return at(found, "cellgate_requests_total", model=model, protocol=protocol, code=code)

    assert (count("steps", "200"), count("last", "503"), count("last", "other"), count("", "200")) == (2, 1, 1, 0)
    assert count("steps", "200", "grpc") == 1
    assert at(found, "cellgate_request_seconds_count", model="steps", protocol="http") == 2
    assert at(found, "cellgate_request_seconds_sum", model="steps", protocol="http") == pytest.approx(0.3002)
    buckets = {
        bound: at(found, "cellgate_request_seconds_bucket", model="steps", protocol="http", le=bound)
        for bound in ("0.0001", "0.00025", "0.25", "0.5", "30.0", "+Inf")
    }
    assert buckets == {"0.0001": 0, "0.00025": 1, "0.25": 1, "0.5": 2, "30.0": 2, "+Inf": 2}
    assert at(found, "cellgate_request_seconds_bucket", model="steps", protocol="grpc", le="30.0") == 0
    assert at(found, "cellgate_request_seconds_bucket", model="steps", protocol="grpc", le="+Inf") == 1


def test_a_value_on_a_bound_counts_under_it(counters):
    meter = RequestMeter(counters.own, 1)
    for bound in SECONDS:
        meter.answered(200, bound)

    counts, _ = counters.read().histogram(REQUEST_S, 1, 0)

    assert counts == [1] * len(SECONDS) + [0]


def test_a_protocol_that_nobody_spoke_has_no_series(counters):
    RequestMeters(counters.own, "grpc").of("steps").answered(200, 0.1)
    found = samples(render_metrics(view(counters), TEXT)[0])

    series = [dict(labels) for name, labels in found if name == "cellgate_requests_total"]
    models = {word: {one["model"] for one in series if one["protocol"] == word} for word in PROTOCOLS}

    assert models == {"http": {"", "steps", "last", "tokens"}, "grpc": {"steps"}, "websocket": set()}


def test_runs_are_counted_by_rows_steps_and_seconds(counters):
    meter = RunMeter(counters.own, "steps")
    meter.begun([0.002])
    for rows, useful, computed in ((1, 5, 5), (3, 10, 15), (64, 600, 640), (64, 640, 640)):
        meter.ran(rows, useful, computed, begun_s=10.0, seconds=0.004)

    found = samples(render_metrics(view(counters), TEXT)[0])

    assert at(found, "cellgate_queue_seconds_bucket", model="steps", le="0.0025") == 1
    assert at(found, "cellgate_run_seconds_count", model="steps") == 4
    assert at(found, "cellgate_run_rows_sum", model="steps") == 132
    rows = [
        at(found, "cellgate_run_rows_bucket", model="steps", le=bound)
        for bound in ("1.0", "2.0", "4.0", "8.0", "16.0", "32.0", "64.0", "+Inf")
    ]
    assert rows == [1, 1, 2, 2, 2, 2, 4, 4]
    assert at(found, "cellgate_steps_total", model="steps", kind="useful") == 1255
    assert at(found, "cellgate_steps_total", model="steps", kind="padding") == 45
    assert at(found, "cellgate_run_rows_count", model="last") == 0


def test_more_rows_than_a_run_can_have_count_as_the_most(counters):
    RunMeter(counters.own, "steps").ran(65, 65, 65, begun_s=0.0, seconds=0.1)

    assert counters.read().histogram(RUN_S_OF_ROWS, 1, 63) == ([1], 0.1)
    assert counters.read().value(STEPS, 1, 1) == 0


def test_what_the_engine_says_of_itself_is_shown_and_left_out_while_it_says_nothing(counters):
    engine = {
        "requests": {"inside": 3, "inside_bytes": 4096},
        "models": {"steps": {"lanes": 2}, "last": {"lanes": 0}},
        "streams": {"steps": {"live": 5, "state_bytes": 120, "ended": {"end": 7, "idle": 1}}},
    }
    found = samples(render_metrics(view(counters, engine=engine), TEXT)[0])
    without = samples(render_metrics(view(counters), TEXT)[0])

    assert at(found, "cellgate_waiting_requests") == 3
    assert at(found, "cellgate_waiting_bytes") == 4096
    assert at(found, "cellgate_lanes", model="steps") == 2
    assert at(found, "cellgate_streams", model="steps") == 5
    assert at(found, "cellgate_stream_state_bytes", model="steps") == 120
    assert at(found, "cellgate_streams_ended_total", model="steps", reason="idle") == 1
    starts = ("cellgate_waiting_", "cellgate_lanes", "cellgate_stream")
    assert names_of(found) - names_of(without) == {name for name in names_of(found) if name.startswith(starts)}


def test_the_server_says_whether_it_is_ready_what_it_serves_and_what_died(counters, served_models):
    cells, layout = counters.own.cells, counters.own.layout
    cells[layout.place(ENGINE_RESTARTS)] += 2
    cells[layout.place(FRONTEND_RESTARTS)] += 3
    model = served_models["steps"]
    model = replace(model, facts=replace(model.facts, precision="tf32"))  # and its bundle says float32
    found = samples(render_metrics(view(counters, [model], is_ready=False), TEXT)[0])

    info = {"model": "steps", "version": "3", "device": "cpu", "provider": model.facts.provider, "precision": "tf32"}
    assert at(found, "cellgate_ready") == 0
    assert at(found, "cellgate_model_info", **info) == 1
    assert at(found, "cellgate_engine_restarts_total") == 2
    assert at(found, "cellgate_frontend_restarts_total") == 3
    assert at(found, "cellgate_process_cpu_seconds_total", process="engine") == 1.5
    assert at(found, "cellgate_process_resident_memory_bytes", process="engine") == 2**20
    assert at(found, "cellgate_process_open_fds", process="engine") == 7


@pytest.mark.parametrize(
    ("accept", "parse"), [(TEXT, parse_text), (OPEN, parse_openmetrics)], ids=["text", "openmetrics"]
)
def test_a_hostile_name_is_one_value_of_one_label(served_models, accept, parse):
    counters = Counters.alone([HOSTILE, "b"])
    RequestMeters(counters.own).of(HOSTILE).answered(200, 0.1)
    models = [replace(served_models["steps"], name=HOSTILE)]
    found = samples(render_metrics(view(counters, models), accept)[0], parse)

    assert at(found, "cellgate_requests_total", model=HOSTILE, protocol="http", code="200") == 1
    assert {dict(labels)["model"] for _, labels in found if "model" in dict(labels)} == {"", HOSTILE, "b"}
    assert all(name.startswith("cellgate_") for name in names_of(found))


@pytest.mark.parametrize("accept", ["", TEXT, "*/*", "text/html", "application/openmetrics-texts", "\x00;;,,"])
def test_whoever_does_not_ask_for_openmetrics_gets_text(counters, accept):
    assert render_metrics(view(counters), accept)[1] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    "accept", [OPEN, "Application/OpenMetrics-Text; version=9\t'", "a/b, application/openmetrics-text"]
)
def test_openmetrics_says_the_same_to_whoever_asks_and_repeats_nothing_of_the_question(counters, accept):
    RequestMeters(counters.own).of("steps").answered(200, 0.1)
    text, media = render_metrics(view(counters), accept)

    assert media == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert samples(text, parse_openmetrics) == samples(render_metrics(view(counters), TEXT)[0])


def test_promtool_finds_no_fault(counters, served_models):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text, _ = render_metrics(view(counters, list(served_models.values()), engine={}), TEXT)

    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_a_scrape_agrees_with_what_was_asked(connect, post, make_request, make_network):
    ask = make_request({"x": make_network("steps").feeds(3, 5)["x"]})
    async with connect() as client:
        for _ in range(4):
            assert (await post(client, ask)).status_code == 200
        assert (await post(client, b"{")).status_code == 400
        assert (await post(client, ask, "nope")).status_code == 404
        assert (await client.get("/v2/models/nope%0A/stats")).status_code == 404
        response = await client.get("/metrics", headers={"accept": TEXT})

    found = samples(response.content)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert at(found, "cellgate_requests_total", model="steps", protocol="http", code="200") == 4
    assert at(found, "cellgate_requests_total", model="steps", protocol="http", code="400") == 1
    assert at(found, "cellgate_requests_total", model="", protocol="http", code="404") == 2
    assert at(found, "cellgate_queue_seconds_count", model="steps") == 4
    assert at(found, "cellgate_run_rows_sum", model="steps") == 12
    assert at(found, "cellgate_steps_total", model="steps", kind="useful") == 60
    assert at(found, "cellgate_steps_total", model="steps", kind="padding") == 0
    assert at(found, "cellgate_waiting_requests") == 0
    assert at(found, "cellgate_ready") == 1
    assert {dict(labels)["model"] for _, labels in found if "model" in dict(labels)} == {"", "steps", "last", "tokens"}
    assert {dict(labels)["code"] for _, labels in found if "code" in dict(labels)} == set(CODES)


async def test_a_scrape_while_there_is_no_engine_says_so(connect, served_models, make_manual_port):
    port = make_manual_port()
    port.is_ready = False
    async with connect([served_models["steps"]], port) as client:
        found = samples((await client.get("/metrics")).content)

    assert at(found, "cellgate_ready") == 0
    assert "cellgate_waiting_requests" not in names_of(found)
    assert at(found, "cellgate_requests_total", model="steps", protocol="http", code="200") == 0


async def test_a_scrape_does_not_wait_for_an_engine_that_is_lost_or_hangs(
    connect, served_models, make_manual_port, monkeypatch
):
    port, never = make_manual_port(), asyncio.Event()

    async def lost():
        raise EngineLost

    async with connect([served_models["steps"]], port) as client:
        port.statistics = lost
        first = samples((await client.get("/metrics")).content)
        monkeypatch.setattr(observation, "_ENGINE_PATIENCE_S", 0.0)
        port.statistics = never.wait
        second = samples((await client.get("/metrics")).content)

    assert {"cellgate_waiting_requests", "cellgate_lanes"}.isdisjoint(names_of(first) | names_of(second))


async def test_metrics_that_are_off_are_nowhere(connect):
    async with connect(metrics=False) as client:
        response = await client.get("/metrics")

    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_client_that_went_away_and_a_refused_request_are_counted(
    connect, served_models, make_manual_port, post, make_request, make_network
):
    ask = make_request({"x": make_network("steps").feeds(1, 2)["x"]})
    port = make_manual_port(QueueFull(1))
    async with connect([served_models["steps"]], port) as client:
        assert (await post(client, ask)).status_code == 503
        port.refusal = None
        async with anyio.create_task_group() as group:
            group.start_soon(post, client, ask)
            await port.next_work()
            group.cancel_scope.cancel()
        reading = client.app.state.serving.counters.read()

    counts = [reading.value(REQUESTS, 1, PROTOCOLS.index("http"), CODES.index(code)) for code in ("503", "499", "200")]
    assert counts == [1, 1, 0]
