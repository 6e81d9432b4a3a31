"""A server whose models come and go under load: real processes, real sockets, every answer held against an oracle."""

import os
import shutil
import signal
import threading
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from cellgate.bundle.reader import read_bundle
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.runtime.device_choice import open_runtime

from ..small_network import H
from .versions_server import INFER, PATIENCE_S, UNLOAD, X, body_of, serving, y_of

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.no_cover]


@pytest.fixture(scope="module")
def expected(repository):
    """The bits that each version answers with: of its runtime, without a server."""
    zeros = np.zeros((1, 1, H), np.float32)
    feeds = {"x": X, "lengths": np.full(1, X.shape[1], np.int32), "h0": zeros, "c0": zeros}
    found = {}
    for version in (1, 2):
        runtime = open_runtime(read_bundle(repository / f"steps-{version}"), device="cpu", threads=1)
        found[str(version)] = runtime.run(feeds)["y"].tobytes()
        runtime.close()
    assert found["1"] != found["2"]
    return found


@pytest.fixture
def place(repository):
    return BundlePlace(repository / "steps-1")


class Load(threading.Thread):
    """A client that asks without a pause on one connection, and keeps every answer."""

    def __init__(self, url):
        super().__init__()
        self.url, self.answers, self.is_over = url, [], threading.Event()
        self.begun = threading.Event()

    def run(self):
        with httpx.Client(base_url=self.url, timeout=PATIENCE_S) as client:
            while not self.is_over.is_set():
                self.answers.append(client.post(INFER, json=body_of(X)))
                self.begun.set()

    def end(self):
        self.is_over.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()
        return self.answers


@contextmanager
def under_load(url, count=3):
    loads = [Load(url) for _ in range(count)]
    for load in loads:
        load.start()
    try:
        for load in loads:
            assert load.begun.wait(PATIENCE_S)
        yield loads
    finally:
        for load in loads:
            load.is_over.set()
            load.join(PATIENCE_S)


def test_a_new_version_takes_over_and_goes_back_without_a_lost_request(repository, place, expected):
    with serving([place], repository=str(repository), workers=2) as running, under_load(running.url) as loads:
        first = running.load()
        after_first = [y_of(running.infer()) for _ in range(10)]
        second = running.load(1)
        after_second = [y_of(running.infer()) for _ in range(10)]
        answers = [answer for load in loads for answer in load.end()]

    assert (first.status_code, first.json()) == (200, {"name": "steps", "version": "2", "state": "loaded"})
    assert second.json() == {"name": "steps", "version": "1", "state": "loaded"}
    assert after_first == [(expected["2"], "2")] * 10
    assert after_second == [(expected["1"], "1")] * 10
    assert {answer.status_code for answer in answers} == {200}
    found = [y_of(answer) for answer in answers]
    assert {version for _, version in found} == {"1", "2"}
    assert all(bits == expected[version] for bits, version in found)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_streams_go_on_in_their_version_also_when_the_engine_dies(repository, place, expected, store, tmp_path):
    kept = "memory" if store == "memory" else f"sqlite:{tmp_path / 'streams'}"
    with serving([place], repository=str(repository), stream_store=kept) as running:
        chunks = [running.infer(X[:, :1], sequence_id=7, sequence_start=True, sequence_step=0)]
        assert running.load().status_code == 200
        chunks.append(running.infer(X[:, 1:2], sequence_id=7, sequence_step=1))
        if store == "sqlite":
            os.kill(running.supervisor.engine_pid, signal.SIGKILL)
            while (answer := running.infer()).status_code != 200:
                assert answer.status_code == 503
            assert y_of(answer) == (expected["2"], "2")
        chunks.append(running.infer(X[:, 2:], sequence_id=7, sequence_step=2, sequence_end=True))
        whole = running.infer(path="/v2/models/steps/versions/1/infer")

    assert [chunk.json()["model_version"] for chunk in chunks] == ["1", "1", "1"]
    assert b"".join(y_of(chunk)[0] for chunk in chunks) == y_of(whole)[0] == expected["1"]


def test_an_engine_that_starts_again_does_without_a_replaced_bundle_that_is_gone(repository, expected, tmp_path):
    shutil.copytree(repository / "steps-1", tmp_path / "old")
    kept = f"sqlite:{tmp_path / 'streams'}"
    with serving([BundlePlace(tmp_path / "old")], repository=str(repository), stream_store=kept) as running:
        running.infer(X[:, :1], sequence_id=7, sequence_start=True, sequence_step=0)
        running.load(2)
        shutil.rmtree(tmp_path / "old")
        os.kill(running.supervisor.engine_pid, signal.SIGKILL)
        while (answer := running.infer()).status_code != 200:
            assert answer.status_code == 503
        late = running.infer(X[:, 1:], sequence_id=7, sequence_step=1)

    assert y_of(answer) == (expected["2"], "2")
    assert (late.status_code, late.json()["code"]) == (409, "model_changed")


def test_a_state_that_the_client_carries_goes_on_in_its_version(repository, place, expected, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef\n")
    with serving([place], repository=str(repository), state_keys_path=str(keys)) as running:
        first = running.infer(X[:, :2], sequence_state="")
        assert running.load().status_code == 200
        second = running.infer(X[:, 2:], sequence_state=first.json()["parameters"]["sequence_state"])
        other = running.infer(X, sequence_state="")

    assert [answer.json()["model_version"] for answer in (first, second, other)] == ["1", "1", "2"]
    assert y_of(first)[0] + y_of(second)[0] == expected["1"]
    assert y_of(other)[0] == expected["2"]


def test_a_replaced_version_is_closed_once_no_stream_can_live_in_it(repository, place):
    limits = {"stream_idle_s": 1.0, "head_timeout_s": 0.1, "body_timeout_s": 0.1}
    with serving([place], repository=str(repository), **limits) as running:
        running.infer(X[:, :1], sequence_id=7, sequence_start=True, sequence_step=0)
        running.load()
        at_once = running.index()
        while len(running.index()) > 1:
            pass
        late = running.infer(X[:, 1:], sequence_id=7, sequence_step=1)
        by_number = running.infer(path="/v2/models/steps/versions/1/infer")

    assert at_once == {("2", "READY"), ("1", "UNLOADING")}
    assert late.json()["code"] == "stream_expired"
    assert by_number.json()["code"] == "unknown_model"


def test_a_model_can_be_unloaded_and_loaded_again(repository, place, expected):
    with serving([place], repository=str(repository)) as running:
        unloaded = running.control.post(UNLOAD)
        gone, listed, index = running.infer(), running.client.get("/v2/models").json(), running.index()
        page = running.client.get("/openapi.json").status_code
        running.load(1)
        back = running.infer()

    assert unloaded.json() == {"name": "steps", "version": "1", "state": "unloaded"}
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_model")
    assert (listed, index, page) == ({"models": []}, {("1", "UNLOADING")}, 200)
    assert y_of(back) == (expected["1"], "1")


def test_streams_of_an_unloaded_model_are_looked_at_forked_and_ended(repository, place, expected):
    path = "/v2/models/steps/streams/7"
    with serving([place], repository=str(repository)) as running:
        running.infer(X[:, :2], sequence_id=7, sequence_start=True, sequence_step=0)
        running.control.post(UNLOAD)
        seen = running.client.get(path).json()["sequence_step"]
        state = running.client.get(f"{path}/state")
        brought = running.client.put("/v2/models/steps/streams/9/state", content=state.content)
        forked = running.client.post(f"{path}/fork", json={"to": 8})
        ended = running.client.delete(path).json()["ended"]
        rest = [running.infer(X[:, 2:], sequence_id=each, sequence_step=1) for each in (8, 9)]

    assert (seen, brought.status_code, forked.status_code, ended) == (0, 200, 200, "closed")
    assert [y_of(one) for one in rest] == [(expected["1"][len(expected["1"]) // 2 :], "1")] * 2


@pytest.mark.parametrize("hot_route", [True, False])
def test_after_an_unload_streams_go_on_in_their_versions_and_nothing_begins(
    repository, place, expected, tmp_path, hot_route
):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef\n")
    settings = {"repository": str(repository), "state_keys_path": str(keys), "hot_route": hot_route}
    with serving([place], **settings) as running:
        begun = {"sequence_start": True, "sequence_step": 0}
        firsts = [running.infer(X[:, :2], sequence_id=7, **begun), running.infer(X[:, :2], sequence_state="")]
        running.load(2)
        firsts.append(running.infer(X[:, :2], sequence_id=8, **begun))
        running.control.post(UNLOAD)
        state = firsts[1].json()["parameters"]["sequence_state"]
        going = {"sequence_id": 7, "sequence_step": 1}, {"sequence_state": state}, {"sequence_id": 8}
        rest = [running.infer(X[:, 2:], **one) for one in going]
        beginning = {}, {"sequence_id": 9, **begun}, {"sequence_state": ""}
        refused = [running.infer(**one) for one in beginning]
        unknown = running.infer(sequence_id=10)

    versions = ("1", "1", "2")
    assert [y_of(one)[1] for one in rest] == list(versions)
    for first, second, version in zip(firsts, rest, versions, strict=True):
        assert y_of(first)[0] + y_of(second)[0] == expected[version]
    assert [(one.status_code, one.json()["code"]) for one in refused] == [(404, "unknown_model")] * 3
    assert unknown.json()["code"] == "unknown_stream"


def test_a_folder_that_was_exchanged_is_read_at_the_next_load_and_not_before(repository, expected, tmp_path):
    shutil.copytree(repository / "steps-1", tmp_path / "steps")
    with serving([BundlePlace(tmp_path / "steps", "steps")]) as running:
        (tmp_path / "steps").rename(tmp_path / "old")
        shutil.copytree(repository / "steps-2", tmp_path / "steps")
        before = y_of(running.infer())
        loaded = running.load()
        after = y_of(running.infer())
        back = running.load(1)  # it is still open, though it lies nowhere any more

    assert (before, after) == ((expected["1"], "1"), (expected["2"], "2"))
    assert (loaded.status_code, back.status_code) == (200, 200)


def test_counts_of_a_name_go_on_over_its_versions(repository, place):
    with serving([place], repository=str(repository)) as running:
        running.infer()
        running.load()
        running.infer()
        (stats,) = running.client.get("/v2/models/steps/stats").json()["model_stats"]
        metrics = running.client.get("/metrics").text
        metadata = running.client.get("/v2/models/steps").json()

    assert (stats["version"], stats["inference_count"]) == ("2", 2)
    assert 'cellgate_requests_total{code="200",model="steps",protocol="http"} 2.0' in metrics
    assert {'version="1"' in metrics, 'version="2"' in metrics} == {True}
    assert metadata["versions"] == ["2", "1"]


def test_a_frontend_that_starts_later_serves_what_is_served_then(repository, place, expected):
    with serving([place], repository=str(repository)) as running:
        running.load()
        old = running.supervisor.frontend_pids
        os.kill(old[0], signal.SIGKILL)
        while running.supervisor.frontend_pids[:1] == old[:1] or len(running.supervisor.frontend_pids) < 2:
            pass
        with httpx.Client(base_url=running.url, timeout=PATIENCE_S) as client:
            answer = client.post(INFER, json=body_of(X))

    assert y_of(answer) == (expected["2"], "2")


def test_a_server_begins_with_the_highest_versions_of_its_repository(repository, expected):
    with serving([], repository=str(repository)) as running:
        assert y_of(running.infer()) == (expected["2"], "2")
