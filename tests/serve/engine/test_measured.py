"""What one process measured of a bundle, and another that opens the same goes by: to the bit, or not at all."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cellgate.serve.engine import models
from cellgate.serve.engine.measured import measured_from, measured_on
from cellgate.serve.engine.models import open_engine_model
from cellgate.serve.models.served_model import BundlePlace, read_served_bundle
from cellgate.serve.runtime.runtime import RuntimeFacts
from cellgate.serve.settings import Settings

FACTS = RuntimeFacts(device="cpu", provider="CPUExecutionProvider", threads=3, version="0", reason="asked for")


@pytest.fixture
def cost(make_cost):
    made = make_cost(step_s=1e-6, max_rows=4)
    made.step_s[1:] = [1 / 3e6, 2 / 3e6, 0.1, 7e-300]
    made.row_s, made.best_row_steps = 0.0, 384
    return made


@pytest.fixture
def figures(cost):
    return measured_on(FACTS, cost).figures()


def test_figures_cross_a_border_as_json_and_keep_every_bit(cost, figures):
    found = measured_from(json.loads(json.dumps(figures)), 4)

    assert found.threads == 3
    assert (found.cost.run_s, found.cost.row_s) == (cost.run_s, cost.row_s)
    assert found.cost.step_s[1:].tobytes() == cost.step_s[1:].tobytes()
    assert found.cost.best_row_steps == 384
    assert found.cost.seconds(4, 9) == cost.seconds(4, 9)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"step_s": [0.0, 1.0]}, id="of fewer rows"),
        pytest.param({"step_s": [0.0, 1.0, 1.0, 1.0, float("nan")]}, id="not a number"),
        pytest.param({"step_s": [0.0, 1.0, 1.0, 1.0, 0.0]}, id="free"),
        pytest.param({"step_s": "fast"}, id="words"),
        pytest.param({"run_s": float("inf")}, id="endless"),
        pytest.param({"run_s": -1e-6}, id="before it began"),
        pytest.param({"row_s": -1e-6}, id="a row below nothing"),
        pytest.param({"threads": 0}, id="no thread"),
        pytest.param({"threads": None}, id="threads unknown"),
        pytest.param({"best_row_steps": 0}, id="no step"),
    ],
)
def test_what_is_no_figure_is_not_gone_by(figures, changes):
    assert measured_from({**figures, **changes}, 4) is None


def test_where_a_figure_is_missing_or_there_are_none_nothing_is_gone_by(figures):
    del figures["run_s"]

    assert measured_from(figures, 4) is None
    assert measured_from(None, 4) is None


def test_what_a_gpu_gave_or_who_waited_for_a_cpu_is_for_nobody_else(cost):
    assert measured_on(replace(FACTS, device="cuda"), cost) is None
    cost.had_cpu = False
    assert measured_on(FACTS, cost) is None


@pytest.fixture
def read(bundle_paths):
    return read_served_bundle(BundlePlace(bundle_paths["steps"]))


@pytest.fixture
def calibrated(monkeypatch, make_cost):
    """How often somebody measured."""
    found = []

    def calibrate(runtime, max_rows, **_):
        found.append(runtime.facts.threads)
        return make_cost(step_s=1e-6, max_rows=max_rows)

    monkeypatch.setattr(models, "calibrate", calibrate)
    return found


def open_with(read, measured, threads=None):
    model = open_engine_model(read, Settings(device="cpu", threads=threads, max_lanes=4), measured=measured)
    model.runtime.close()
    return model


def test_a_bundle_that_was_measured_is_opened_and_proved_once_and_not_measured(read, cost, calibrated):
    model = open_with(read, measured_on(replace(FACTS, threads=2), cost))

    assert calibrated == []
    assert model.cost is cost
    assert model.served.facts.threads == 2
    assert model.served.golden.passed
    assert model.measured.cost is cost


def test_where_the_runtime_is_another_than_was_measured_it_is_measured_here(read, cost, calibrated, monkeypatch):
    opened = []
    real = models.open_runtime

    def open_runtime(*given, **options):
        opened.append(real(*given, **{**options, "threads": 1}))
        return opened[-1]

    monkeypatch.setattr(models, "open_runtime", open_runtime)
    model = open_with(read, measured_on(replace(FACTS, threads=2), cost), threads=1)

    assert calibrated == [1]
    assert model.runtime is opened[1]
    with pytest.raises(Exception, match="found it closed"):
        opened[0].run({"x": np.zeros((1, 1, 2), np.float32)})
