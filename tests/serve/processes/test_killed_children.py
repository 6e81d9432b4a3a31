"""Real processes, killed on purpose: whoever dies, every request is answered and the next one succeeds."""

import asyncio
import json
import os
import shutil
import signal

import httpx
import pytest

from cellgate.serve.engine.port import infer
from cellgate.serve.errors import EngineLost
from cellgate.serve.processes.engine_client import EngineClient
from cellgate.serve.processes.hang_watch import HangWatch
from cellgate.serve.settings import Settings

from .supervised import BODY, INFER, PATIENCE_S, REQUESTS_OK, asking, scrape, supervised, suspended

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.no_cover]


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


def next_line(log, start):
    """Wait for the next line after the first."""
    with log.changed:
        assert log.changed.wait_for(lambda: len(log.lines) > 1, PATIENCE_S)
        return log.lines[1]
