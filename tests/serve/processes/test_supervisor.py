"""Real processes, killed on purpose: whoever dies, every request is answered and the next one succeeds."""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cellgate.bundle.errors import NotABundleError
from cellgate.serve.engine.port import infer
from cellgate.serve.errors import EngineLost
from cellgate.serve.listeners import base_url, bind_listener
from cellgate.serve.processes import slots
from cellgate.serve.processes import supervisor as supervisor_module
from cellgate.serve.processes.engine_client import EngineClient
from cellgate.serve.processes.hang_watch import HangWatch
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.served_model import BundlePlace
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import ServerStartError

PATIENCE_S = 30
BODY = {"inputs": [{"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
INFER = "/v2/models/steps/infer"
REQUESTS_OK = ("cellgate_requests_total", (("code", "200"), ("model", "steps"), ("protocol", "http")))


class Watched:
    """A supervisor in a thread, and lines that its logger wrote."""

    def __init__(self, supervisor, url):
        self.supervisor, self.url = supervisor, url
        self.up = threading.Event()
        self.hello = None
        self.failure = None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.supervisor.run(self._on_up)
        except Exception as err:  # noqa: BLE001 - the test looks at it
            self.failure = err
        self.up.set()

    def _on_up(self, hello):
        self.hello = hello
        self.up.set()

    def end(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


class Lines(logging.Handler):
    """Waits for a line of the log."""

    def __init__(self):
        super().__init__()
        self.lines, self.changed = [], threading.Condition()

    def emit(self, record):
        with self.changed:
            self.lines.append(record.getMessage())
            self.changed.notify_all()

    def wait_for(self, line):
        with self.changed:
            assert self.changed.wait_for(lambda: line in self.lines, PATIENCE_S), self.lines


@pytest.fixture
def log():
    handler, logger = Lines(), logging.getLogger("cellgate.supervisor")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def place(bundle_paths, tmp_path):
    """A bundle that a test may take away."""
    shutil.copytree(bundle_paths["steps"], tmp_path / "steps")
    return BundlePlace(tmp_path / "steps")


@contextmanager
def supervised(place, **settings):
    settings = Settings(device="cpu", threads=1, port=0, **settings)
    listener = bind_listener("127.0.0.1", 0)
    watched = Watched(Supervisor([place], settings, listener), base_url(listener))
    watched.thread.start()
    try:
        assert watched.up.wait(PATIENCE_S)
        yield watched
    finally:
        watched.supervisor.stop()
        watched.end()


pytestmark = pytest.mark.slow


def test_a_dead_engine_is_replaced_and_the_requests_in_it_are_told(place, log, make_work):
    async def lose_and_go_on(watched):
        client = EngineClient(watched.supervisor.engine_path, Settings())
        async with client.running(PATIENCE_S):
            first = await infer(client, make_work())
            os.kill(watched.supervisor.engine_pid, signal.SIGSTOP)
            asked = [asyncio.ensure_future(infer(client, make_work())) for _ in range(50)]
            await asyncio.sleep(0)
            os.kill(watched.supervisor.engine_pid, signal.SIGKILL)
            lost = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), PATIENCE_S)
            was_ready = client.is_ready
            await asyncio.wait_for(client.wait_ready(), PATIENCE_S)
            second = await infer(client, make_work())
            statistics = await client.statistics()
        return first, lost, was_ready, second, statistics

    with supervised(place) as watched:
        first, lost, was_ready, second, statistics = asyncio.run(lose_and_go_on(watched))
        log.wait_for("engine: ready again")
        after = httpx.post(watched.url + INFER, json=BODY)

    assert {type(err) for err in lost} == {EngineLost}
    assert not was_ready
    assert second["y"].tobytes() == first["y"].tobytes()
    assert statistics["requests"]["inside"] == 0
    assert after.status_code == 200
    assert log.lines[0] == "engine: its process ended with signal 9; it is started again"


def test_over_http_a_dead_engine_is_a_503_that_may_be_tried_again_and_readiness_tells(place, log):
    with supervised(place) as watched, httpx.Client(base_url=watched.url, timeout=PATIENCE_S) as client:
        before = client.get("/v2/health/ready").status_code
        os.kill(watched.supervisor.engine_pid, signal.SIGSTOP)
        with asking(watched.url) as read_answer:
            os.kill(watched.supervisor.engine_pid, signal.SIGKILL)
            answer = read_answer()
        log.wait_for("engine: ready again")
        while (after := client.get("/v2/health/ready")).status_code != 200:
            assert after.status_code == 503
        again = client.post(INFER, json=BODY)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert before == 200
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head.lower()
    assert json.loads(body)["code"] == "engine_lost"
    assert again.status_code == 200


def test_an_engine_that_hangs_is_replaced_and_the_requests_in_it_are_told(place, log):
    with supervised(place, engine_hang_s=3.0) as watched:
        hung = watched.supervisor.engine_pid
        os.kill(hung, signal.SIGSTOP)
        with asking(watched.url) as read_answer:
            answer = read_answer()
        log.wait_for("engine: ready again")
        while scrape(watched.url)["cellgate_ready", ()] != 1:
            pass
        again = httpx.post(watched.url + INFER, json=BODY, timeout=PATIENCE_S)
        restarts = scrape(watched.url)["cellgate_engine_restarts_total", ()]
        new = watched.supervisor.engine_pid

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "engine_lost"
    assert again.status_code == 200
    assert new != hung
    assert restarts == 1
    assert log.lines == [f"engine: {HangWatch(3.0, 0.0).complaint}", "engine: ready again"]


def test_an_engine_that_hangs_while_nobody_asks_is_replaced_too(place, log):
    with supervised(place, engine_hang_s=3.0) as watched:
        hung = watched.supervisor.engine_pid
        os.kill(hung, signal.SIGSTOP)
        log.wait_for("engine: ready again")
        new = watched.supervisor.engine_pid

    assert new != hung


def test_a_dead_frontend_is_replaced_and_its_work_leaves_the_engine(place, log):
    with supervised(place) as watched:
        (old,) = watched.supervisor.frontend_pids
        os.kill(old, signal.SIGKILL)
        log.wait_for("frontend 0: its process ended with signal 9; it is started again")
        answer = httpx.post(watched.url + INFER, json=BODY, timeout=PATIENCE_S)
        (new,) = watched.supervisor.frontend_pids

    assert answer.status_code == 200
    assert new != old


def test_all_frontends_share_one_port_and_one_engine(place):
    with supervised(place, workers=2) as watched:
        first, second = watched.supervisor.frontend_pids
        os.kill(first, signal.SIGSTOP)  # whoever connects now is served by the other one, or waits for the first
        os.kill(first, signal.SIGCONT)
        answers = [httpx.post(watched.url + INFER, json=BODY, timeout=PATIENCE_S).status_code for _ in range(4)]

    assert first != second
    assert answers == [200] * 4


def test_a_stop_answers_what_is_accepted_and_refuses_new_connections(place):
    with supervised(place) as watched:
        engine = watched.supervisor.engine_pid
        os.kill(engine, signal.SIGSTOP)
        with asking(watched.url) as read_answer:
            watched.supervisor.stop()
            while is_open(watched.url):
                pass
            os.kill(engine, signal.SIGCONT)
            answer = read_answer()
        watched.end()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert watched.failure is None


def test_a_stop_at_once_kills_whoever_is_busy(place, log):
    with supervised(place) as watched:
        os.kill(watched.supervisor.engine_pid, signal.SIGSTOP)
        watched.supervisor.stop(now=True)
        watched.end()

    assert watched.failure is None
    assert "engine: it has not ended in time and is killed" in log.lines


def test_who_does_not_end_in_time_is_killed(place, log, monkeypatch):
    monkeypatch.setattr(supervisor_module, "EXIT_S", 0.0)
    with supervised(place, shutdown_grace_s=0.0) as watched:
        pids = watched.supervisor.engine_pid, *watched.supervisor.frontend_pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        watched.supervisor.stop()
        watched.end()

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert "frontend 0: it has not ended in time and is killed" in log.lines


def test_a_start_that_fails_raises_the_childs_own_error_and_leaves_no_process(tmp_path, log):
    with supervised(BundlePlace(tmp_path / "none")) as watched:
        watched.end()

    assert type(watched.failure) is NotABundleError
    assert str(watched.failure).startswith(f"{tmp_path / 'none'}: expected the folder of a bundle, found: ")
    assert log.lines == []


def test_a_child_that_dies_without_a_word_is_a_failed_start(place, monkeypatch):
    monkeypatch.setattr(slots, "FRONTEND", "cellgate.no_such_module")
    with supervised(place) as watched:
        watched.end()

    assert type(watched.failure) is ServerStartError
    assert str(watched.failure) == "frontend 0: expected it to start, found that its process ended with status 1"


def test_a_stop_during_the_start_ends_it_in_order(place):
    settings = Settings(device="cpu", threads=1)
    supervisor = Supervisor([place], settings, bind_listener("127.0.0.1", 0))
    supervisor.stop()
    supervisor.run(lambda _hello: pytest.fail("it was up"))
    supervisor.stop()  # too late, and harmless

    assert supervisor.engine_pid is None


def test_another_bundle_at_the_same_place_is_not_served_in_the_middle(place, log, make_network, tmp_path):
    with supervised(place) as watched:
        shutil.rmtree(place.path)
        os.kill(watched.supervisor.engine_pid, signal.SIGKILL)
        log.wait_for("engine: its process ended with signal 9; it is started again")
        missing = next_line(log, "engine: ")
        make_network("steps", 1).write(place.path)
        found = "expected the bundle that was served from there, found another"
        log.wait_for(f"engine: {place.path}: {found}; put it back, or start the server again")
        shutil.rmtree(place.path)
        make_network("steps").write(place.path)
        log.wait_for("engine: ready again")
        with httpx.Client(base_url=watched.url, timeout=PATIENCE_S) as client:
            while client.get("/v2/health/ready").status_code != 200:
                pass
            answer = client.post(INFER, json=BODY)

    assert f"{place.path}: expected the folder of a bundle" in missing
    assert answer.status_code == 200


def test_children_end_when_their_supervisor_is_gone(place):
    with supervised(place) as watched:
        slots = [*watched.supervisor._frontends, watched.supervisor._engine]
        watched.supervisor._is_stopping = True  # nobody is started again
        for slot in slots:
            slot.child._process.stdin.close()
        watched.end()

    assert watched.failure is None


def test_the_settings_reach_every_process(place):
    with supervised(place, max_batch_rows=2) as watched:
        body = {"inputs": [{"name": "x", "shape": [3, 1, 2], "datatype": "FP32", "data": [1] * 6}]}
        answer = httpx.post(watched.url + INFER, json=body)

    assert answer.status_code == 400
    assert "at most 2 rows" in answer.json()["error"]


def processes_of(found):
    return {dict(labels)["process"] for name, labels in found if name == "cellgate_process_open_fds"}


def test_counts_are_those_of_all_frontends_and_outlive_whoever_dies(place, log):
    everybody = {"supervisor", "engine", "frontend 0", "frontend 1"}
    with supervised(place, workers=2) as watched:
        pids = watched.supervisor.frontend_pids
        for stopped in pids:  # the other one answers
            with suspended(stopped):
                assert httpx.post(watched.url + INFER, json=BODY, timeout=PATIENCE_S).status_code == 200
        first = scrape(watched.url)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for number in range(2):
            log.wait_for(f"frontend {number}: its process ended with signal 9; it is started again")
        os.kill(watched.supervisor.engine_pid, signal.SIGKILL)
        log.wait_for("engine: ready again")
        while not scrape(watched.url)["cellgate_ready", ()]:
            pass
        assert httpx.post(watched.url + INFER, json=BODY, timeout=PATIENCE_S).status_code == 200
        while processes_of(second := scrape(watched.url)) != everybody:  # one of the two may still be starting
            pass
        (stats,) = httpx.get(f"{watched.url}/v2/models/steps/stats", timeout=PATIENCE_S).json()["model_stats"]

    for found, count, deaths in ((first, 2, 0), (second, 3, 1)):
        assert found[REQUESTS_OK] == count
        assert found["cellgate_queue_seconds_count", (("model", "steps"),)] == count
        assert found["cellgate_engine_restarts_total", ()] == deaths
        assert found["cellgate_frontend_restarts_total", ()] == 2 * deaths
        assert processes_of(found) == everybody
    assert (stats["inference_count"], stats["execution_count"]) == (3, 3)
    assert stats["inference_stats"]["success"]["count"] == 3


def test_a_scrape_is_answered_while_the_engine_is_gone(place, log):
    with supervised(place) as watched:
        httpx.post(watched.url + INFER, json=BODY, timeout=PATIENCE_S)
        shutil.rmtree(place.path)  # so that no next one comes
        os.kill(watched.supervisor.engine_pid, signal.SIGKILL)
        log.wait_for("engine: its process ended with signal 9; it is started again")
        while (found := scrape(watched.url))["cellgate_ready", ()]:
            pass

    assert found[REQUESTS_OK] == 1
    assert found["cellgate_engine_restarts_total", ()] >= 1
    assert "cellgate_waiting_requests" not in {name for name, _ in found}


def test_a_traced_server_sends_the_engine_s_part_too(place, collector):
    endpoint, sent_spans = collector
    with supervised(place, otel_endpoint=endpoint) as watched:
        for _ in range(3):
            assert httpx.post(watched.url + INFER, json=BODY, timeout=PATIENCE_S).status_code == 200
        watched.supervisor.stop()
        watched.end()

    by_trace = {}
    for span in sorted(sent_spans(), key=lambda span: span.start_time_unix_nano):
        by_trace.setdefault(span.trace_id, []).append(span.name)
    assert [sorted(names) for names in by_trace.values()] == [["accept", "answer", "infer steps", "queue", "runs"]] * 3


def next_line(log, start):
    """Wait for the next line after the first."""
    with log.changed:
        assert log.changed.wait_for(lambda: len(log.lines) > 1, PATIENCE_S)
        return log.lines[1]


def tuple_of(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def is_open(url):
    try:
        socket.create_connection(tuple_of(url), timeout=PATIENCE_S).close()
    except OSError:
        return False
    return True


@contextmanager
def asking(url):
    """Send a request for inference; yields how to read its answer, once the frontend has handed it over."""
    with socket.create_connection(tuple_of(url), timeout=PATIENCE_S) as connection:
        body = json.dumps(BODY).encode()
        head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        httpx.get(f"{url}/v2/health/live", timeout=PATIENCE_S)  # one thread answers: it has read what came before

        def read_answer():
            with connection.makefile("rb") as file:
                return file.read()

        yield read_answer


def scrape(url):
    """Return the samples of a scrape by name and labels."""
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).raise_for_status().text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


@contextmanager
def suspended(pid):
    """Stop a process, and wait until it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            pass
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
