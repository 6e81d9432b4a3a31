"""The trial of one bundle, in a real process: what it survives, what it dies of, and that nothing is left of it."""

import json
import os
import select
import shutil
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cellgate.bundle.errors import DigestError
from cellgate.bundle.reader import read_bundle
from cellgate.serve.engine.cost_model import CostModel
from cellgate.serve.engine.measured import Measured
from cellgate.serve.engine.models import max_rows_of
from cellgate.serve.errors import LoadRefused, NotReady
from cellgate.serve.models.repository import Repository
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.child_border import ChildBorder
from cellgate.serve.processes.child_process import ChildProcess
from cellgate.serve.processes.model_loader import LoadJob, ModelLoader
from cellgate.serve.processes.trial import TRIAL, Trial
from cellgate.serve.processes.trial_child import try_bundle
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import GoldenMismatchError

from .deadly_network import DeadlyNetwork
from .trial_watch import children_of

PATIENCE_S = 30
SETTINGS = Settings(device="cpu", threads=1)
STAGES = "(it was read|its graph was opened|the time of its runs was measured)"
pytestmark = pytest.mark.slow


def place_of(path):
    return BundlePlace(path, "steps", read_bundle(path).digest)


@pytest.fixture
def endless(tmp_path):
    return place_of(DeadlyNetwork("never returns").write(tmp_path / "endless"))


@pytest.fixture
def nobody_is_left():
    before = children_of(os.getpid())
    yield
    assert children_of(os.getpid()) <= before


@pytest.mark.usefixtures("nobody_is_left")
def test_a_bundle_that_nothing_is_wrong_with_survives(bundle_paths):
    found = Trial(SETTINGS).prove(place_of(bundle_paths["steps"]))

    if found is not None:  # the machine may be busy, and then it is for nobody else
        assert found.threads == SETTINGS.threads
        assert found.cost.max_rows == max_rows_of(SETTINGS)
        assert 0 < found.cost.seconds(8, 32) < 1


@pytest.fixture
def measured():
    rows = max_rows_of(SETTINGS)
    return Measured(threads=1, cost=CostModel(run_s=1e-5, row_s=1e-6, step_s=np.arange(rows + 1) / 3e6))


def test_figures_of_a_trial_come_over_the_border(endless, measured):
    """Whatever the machine is at: the verdict as the process says it."""
    trial = Trial(SETTINGS)
    trial._verdict = json.loads(json.dumps({"survived": measured.figures()}))

    assert trial._judge(endless, 0, is_late=False) == measured.figures()


def test_what_a_trial_measured_is_not_measured_again(bundle_paths, measured, monkeypatch):
    monkeypatch.setattr(Trial, "prove", lambda _trial, _place: measured)
    repository, is_done = Repository([place_of(bundle_paths["steps"])], None), threading.Event()
    loader = ModelLoader(repository, SETTINGS, is_tried=True)
    loader.waker = is_done.set
    loader.post(LoadJob("steps", None))
    loader.begin(lambda _name: {})
    assert is_done.wait(PATIENCE_S)
    job = loader.take()
    job.model.runtime.close()
    loader.close()

    assert job.error is None
    assert job.model.cost is measured.cost
    assert job.model.served.golden.passed


@pytest.mark.usefixtures("nobody_is_left")
@pytest.mark.parametrize(
    ("how", "doing"), [("at opening", "its graph was opened"), ("in a run", "the time of its runs was measured")]
)
def test_a_bundle_that_the_runtime_dies_of_is_refused_in_one_sentence(tmp_path, how, doing):
    path = DeadlyNetwork(how).write(tmp_path / "deadly")
    with pytest.raises(LoadRefused) as caught:
        Trial(SETTINGS).prove(place_of(path))

    assert str(caught.value) == (
        f"bundle {path}: expected its trial, in a process of its own, to go well, found that this process died by "
        f"signal 6 (SIGABRT) while {doing}; nothing was changed; look at it with: cellgate verify {path}"
    )
    assert caught.value.status == 409


@pytest.mark.usefixtures("nobody_is_left")
def test_a_trial_that_takes_too_long_is_ended(endless):
    settings = replace(SETTINGS, trial_limit_s=1.5)

    with pytest.raises(LoadRefused, match=rf"not over in 1.5 s \(--trial-limit-s\), and was ended while {STAGES};"):
        Trial(settings).prove(endless)


@pytest.mark.usefixtures("nobody_is_left")
def test_what_an_engine_would_refuse_is_refused_in_the_same_words(make_network, tmp_path):
    network = make_network("steps")
    case = network.golden()[0]
    wrong = replace(case, outputs={**case.outputs, "y": case.outputs["y"] + np.float32(0.01)})
    path = network.write(tmp_path / "wrong", golden=[wrong])

    with pytest.raises(GoldenMismatchError, match="bundle steps: expected the golden cases to be reproduced"):
        Trial(SETTINGS).prove(place_of(path))


@pytest.mark.usefixtures("nobody_is_left")
def test_a_bundle_that_was_damaged_meanwhile_is_refused(bundle_paths, tmp_path):
    path = shutil.copytree(bundle_paths["steps"], tmp_path / "steps")
    place = place_of(path)
    (path / "model.onnx").write_bytes(b"x")

    with pytest.raises(DigestError, match=r"model\.onnx"):
        Trial(SETTINGS).prove(place)


@pytest.mark.usefixtures("nobody_is_left")
def test_a_trial_that_is_stopped_ends_at_once_and_says_nothing_of_the_bundle(endless):
    trial, caught = Trial(SETTINGS), []
    before = children_of(os.getpid())

    def prove():
        try:
            trial.prove(endless)
        except Exception as err:  # noqa: BLE001 - the test looks at it
            caught.append(err)

    thread = threading.Thread(target=prove)
    thread.start()
    while not children_of(os.getpid()) - before:
        pass
    trial.stop()
    trial.stop()
    thread.join(PATIENCE_S)

    assert [type(err) for err in caught] == [NotReady]


@pytest.mark.usefixtures("nobody_is_left")
def test_a_trial_that_was_stopped_before_it_began_starts_no_process(endless):
    trial = Trial(SETTINGS)
    trial.stop()

    with pytest.raises(NotReady):
        trial.prove(endless)


def test_where_no_process_can_be_started_the_load_is_refused(endless, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))

    with pytest.raises(LoadRefused, match=r"expected a process to try it in, found \[Errno 2\]"):
        Trial(SETTINGS).prove(endless)


@pytest.fixture
def tried(endless):
    """The trial's process of a bundle that never returns, in the middle of a run."""
    config = {"place": [str(endless.path), endless.name, endless.digest], "settings": asdict(SETTINGS)}
    child = ChildProcess(TRIAL, config, ())
    doing = []
    while "the time of its runs was measured" not in doing:
        doing += [report["doing"] for report in child.read_reports()]
    yield child
    child.kill()
    child.reap()


def test_a_trial_ends_with_the_process_that_started_it_also_in_the_middle_of_a_run(tried):
    tried._process.stdin.close()
    has_ended, *_ = select.select([tried.reports], [], [], PATIENCE_S)

    assert has_ended
    assert tried.read_reports() is None
    assert tried.reap() == -signal.SIGIO


def test_where_memory_runs_out_the_kernel_takes_the_trial_first_and_those_who_serve_get_the_cpu_first(tried):
    score = int(Path(f"/proc/{tried.pid}/oom_score_adj").read_text())

    assert score == 1000
    assert os.getpriority(os.PRIO_PROCESS, tried.pid) > os.getpriority(os.PRIO_PROCESS, 0)


def test_a_trial_whose_parent_has_gone_before_tries_nothing():
    lifeline, feed = os.pipe()
    os.close(feed)
    try:
        with pytest.raises(EOFError):
            try_bundle(ChildBorder(lifeline, -1), {})
    finally:
        os.close(lifeline)
