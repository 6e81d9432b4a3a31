"""A server that is asked to load what its runtime would die of: real bundles, real processes, who serves goes on."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from cellgate.serve.listeners import target
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.opening import Opening
from cellgate.serve.start_errors import BundleCrashError

from .deadly_network import DeadlyNetwork
from .supervised import scrape, supervised
from .trial_watch import children_of, is_there, runs, trial_of
from .versions_server import INFER, LOAD, PATIENCE_S, X, body_of, serving, y_of

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def folder(repository, tmp_path):
    """Versions 1 and 2 of a network that nothing is wrong with."""
    return shutil.copytree(repository, tmp_path / "repository")


@pytest.fixture
def place(folder):
    return BundlePlace(folder / "steps-1")


def add(folder, how, version=9):
    return DeadlyNetwork(how).write(folder / f"deadly-{version}", version=version)


class Asking(threading.Thread):
    """A client that asks without a pause until it is told to end, and keeps every status."""

    def __init__(self, url):
        super().__init__()
        self.url, self.statuses, self.is_over, self.begun = url, [], threading.Event(), threading.Event()

    def run(self):
        with httpx.Client(base_url=self.url, timeout=PATIENCE_S) as client:
            while not self.is_over.is_set():
                self.statuses.append(client.post(INFER, json=body_of(X)).status_code)
                self.begun.set()

    def __enter__(self):
        self.start()
        assert self.begun.wait(PATIENCE_S)
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join(PATIENCE_S)


class Order(threading.Thread):
    """An order to load, and its answer."""

    def __init__(self, running, version=None):
        super().__init__()
        self.url = f"{running.control.base_url}"
        self.body = {} if version is None else {"parameters": {"version": version}}
        self.answer = None
        self.start()

    def run(self):
        self.answer = httpx.post(f"{self.url}{LOAD}", json=self.body, timeout=PATIENCE_S)

    def end(self):
        self.join(PATIENCE_S)
        assert not self.is_alive()
        return self.answer


@pytest.mark.parametrize("how", ["at opening", "in a run"])
def test_a_bundle_that_kills_its_trial_is_refused_and_nobody_notices(folder, place, how):
    path = add(folder, how)
    with serving([place], repository=str(folder)) as running, Asking(running.url) as asking:
        whole = running.infer()
        engine = running.supervisor.engine_pid
        chunks = [running.infer(X[:, :2], sequence_id=7, sequence_start=True, sequence_step=0)]
        refused = running.load()
        chunks.append(running.infer(X[:, 2:], sequence_id=7, sequence_step=1, sequence_end=True))
        index, same, left = running.index(), running.supervisor.engine_pid, children_of(engine)
        asking.is_over.set()
        restarts = scrape(running.url)["cellgate_engine_restarts_total", ()]
        next_one = running.load(2)

    assert (refused.status_code, refused.json()["code"]) == (409, "load_refused")
    assert refused.json()["error"].startswith(f"bundle {path}: expected its trial, in a process of its own, to go well")
    assert "died by signal 6 (SIGABRT) while" in refused.json()["error"]
    assert refused.json()["error"].endswith(f"nothing was changed; look at it with: cellgate verify {path}")
    assert (same, restarts, left, index) == (engine, 0, set(), {("1", "READY")})
    assert b"".join(y_of(chunk)[0] for chunk in chunks) == y_of(whole)[0]
    assert set(asking.statuses) == {200}
    assert next_one.status_code == 200


@pytest.mark.no_cover
def test_without_a_trial_the_same_bundle_takes_the_engine_down(folder, place):
    add(folder, "at opening")
    with serving([place], repository=str(folder), trial_limit_s=0.0) as running:
        engine = running.supervisor.engine_pid
        lost = running.load()
        after, new = running.infer_of_the_next(), running.supervisor.engine_pid

    assert (lost.status_code, lost.json()["code"]) == (503, "engine_lost")
    assert new != engine
    assert (after.status_code, after.json()["model_version"]) == (200, "1")


def test_over_grpc_it_is_refused_in_the_same_words(folder, place):
    grpc = pytest.importorskip("tritonclient.grpc")
    path = add(folder, "in a run")
    with serving([place], repository=str(folder), grpc=True, grpc_port=0) as running:
        client = grpc.InferenceServerClient(target(running.held.control_rpc))
        with pytest.raises(grpc.InferenceServerException) as caught:
            client.load_model("steps")
        client.close()

    assert caught.value.status() == "StatusCode.ABORTED"
    assert (
        f"died by signal 6 (SIGABRT) while the time of its runs was measured; nothing was changed; look at it with: "
        f"cellgate verify {path}" in caught.value.message()
    )


@pytest.mark.no_cover
def test_a_bundle_that_never_returns_is_refused_after_the_limit(folder, place):
    add(folder, "never returns")
    with serving([place], repository=str(folder), trial_limit_s=2.0) as running, Asking(running.url) as asking:
        refused = running.load()
        while (next_one := running.load(2)).status_code == 409:  # on a busy machine a good one may be late too
            assert "found that it was not over in 2 s (--trial-limit-s)" in next_one.json()["error"]

    assert (refused.status_code, refused.json()["code"]) == (409, "load_refused")
    assert "found that it was not over in 2 s (--trial-limit-s)" in refused.json()["error"]
    assert next_one.status_code == 200
    assert set(asking.statuses) == {200}


def test_a_load_goes_on_where_its_client_goes_away(folder, place):
    with serving([place], repository=str(folder)) as running:
        url = running.control.base_url
        with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as client:
            client.sendall(f"POST {LOAD} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
            trial = trial_of(running.supervisor.engine_pid)
        while (answer := running.infer()).json()["model_version"] != "2":
            assert answer.status_code == 200

    assert not is_there(trial)


@pytest.mark.no_cover
def test_of_two_loads_at_a_time_one_may_die_and_the_other_is_served(folder, place):
    add(folder, "in a run")
    with serving([place], repository=str(folder)) as running:
        orders = [Order(running, 9), Order(running, 2)]
        refused, loaded = (order.end() for order in orders)
        index = running.index()

    assert (refused.status_code, refused.json()["code"]) == (409, "load_refused")
    assert (loaded.status_code, loaded.json()["version"]) == (200, "2")
    assert index == {("2", "READY"), ("1", "UNLOADING")}


def test_an_engine_that_is_killed_during_a_trial_takes_the_trial_with_it(folder, place):
    add(folder, "never returns")
    with serving([place], repository=str(folder)) as running:
        order = Order(running)
        trial = trial_of(running.supervisor.engine_pid)
        os.kill(running.supervisor.engine_pid, signal.SIGKILL)
        lost = order.end()
        while is_there(trial):
            pass
        after = running.infer_of_the_next()

    assert (lost.status_code, lost.json()["code"]) == (503, "engine_lost")
    assert (after.status_code, after.json()["model_version"]) == (200, "1")


COMMAND = [sys.executable, "-P", "-m", "cellgate", "serve", "--port", "0", "--device", "cpu", "--no-grpc"]


def test_a_server_that_is_stopped_during_a_trial_answers_and_ends_at_once_with_exit_0(folder, place):
    add(folder, "never returns")
    options = ["--repository", str(folder), "--control", "--control-port", "0", str(place.path)]
    with subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        while not lines or not lines[-1].startswith("stop with"):
            lines.append(process.stdout.readline())
        control = re.search(r"control: +(http://[^/]+)/", "".join(lines))[1]
        children = children_of(process.pid)
        asks = [HTTPConnection(urlsplit(control).netloc, timeout=PATIENCE_S) for _ in range(2)]  # the second one waits
        for ask in asks:
            ask.request("POST", LOAD, headers={"Content-Length": "0"})
        assert httpx.get(f"{control}/v2/health/live").status_code == 200  # whoever came before it was accepted and read
        (trial,) = {trial_of(pid) for pid in children if runs(pid, "engine_child")}
        process.send_signal(signal.SIGTERM)
        answers = [ask.getresponse() for ask in asks]
        found = [(answer.status, json.load(answer)["code"]) for answer in answers]
        for ask in asks:
            ask.close()
        _, errors = process.communicate(timeout=PATIENCE_S)

    assert found == [(503, "not_ready")] * 2
    assert process.returncode == 0
    assert "killed" not in errors
    assert not any(is_there(pid) for pid in (trial, *children))


@pytest.mark.parametrize("how", ["at opening", "in a run"])
def test_a_server_that_begins_with_such_a_bundle_says_which_in_one_sentence_and_ends(folder, place, how):
    path = add(folder, how)
    places = [str(place.path), f"other={path}"]
    done = subprocess.run([*COMMAND, *places], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("cellgate: ")]

    assert done.returncode == 2
    assert sentence.startswith(
        f"cellgate: bundle {path}: expected the engine's process to live, found that it died by "
    )
    assert sentence.endswith(f"; look at it with: cellgate verify {path}, and serve without it")
    assert "signal 6 (SIGABRT) while" in sentence


@pytest.fixture
def kill_engines_at(monkeypatch):
    """Kill whichever engine begins anything with a bundle of this version, as soon as the supervisor hears of it."""

    def begin(supervisor, folder):
        hear = Opening.hear

        def hear_and_kill(opening, stage):
            hear(opening, stage)
            if stage.path == str(folder):
                os.kill(supervisor.engine_pid, signal.SIGKILL)

        monkeypatch.setattr(Opening, "hear", hear_and_kill)
        os.kill(supervisor.engine_pid, signal.SIGKILL)

    return begin


@pytest.mark.no_cover
def test_a_server_ends_where_each_engine_dies_of_a_current_bundle(place, log, kill_engines_at):
    with supervised(place) as watched:
        pids = (*watched.supervisor.frontend_pids, watched.supervisor.engine_pid)
        kill_engines_at(watched.supervisor, place.path)
        watched.end()

    sentence = f"bundle {place.path}: expected the engine's process to live, found that it died by signal 9 (SIGKILL, "
    assert type(watched.failure) is BundleCrashError
    assert str(watched.failure).startswith(sentence)
    assert [line for line in log.lines if line.startswith(f"engine: {sentence}")] != []
    assert not any(is_there(pid) for pid in pids)


@pytest.mark.no_cover
def test_a_server_does_without_a_replaced_bundle_of_which_each_engine_dies(folder, place, kill_engines_at, log):
    with serving([place], repository=str(folder)) as running:
        running.infer(X[:, :1], sequence_id=7, sequence_start=True, sequence_step=0)
        running.load(2)
        kill_engines_at(running.supervisor, place.path)
        log.wait_for("engine: it starts without that bundle, which was replaced; its streams are told")
        after, index = running.infer_of_the_next(), running.index()

    assert (after.status_code, after.json()["model_version"]) == (200, "2")
    assert index == {("2", "READY")}
