"""A supervisor over real processes: how they start, share a port and the settings, and end."""

import os
import signal
from pathlib import Path

import httpx
import pytest

from cellgate.bundle.errors import NotABundleError
from cellgate.serve.listeners import bind_listener
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes import shutdown, slots
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import ServerStartError

from .supervised import BODY, INFER, PATIENCE_S, asking, is_open, supervised

pytestmark = [pytest.mark.slow, pytest.mark.long]


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
    monkeypatch.setattr(shutdown, "EXIT_S", 0.0)
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


def test_children_end_when_their_supervisor_is_gone(place):
    with supervised(place) as watched:
        slots = [*watched.supervisor._frontends, watched.supervisor._engine]
        watched.supervisor._shutdown.is_begun = True  # nobody is started again
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
