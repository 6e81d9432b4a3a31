"""Models are opened, proved and measured; whatever fails, nothing stays open."""

import json
import re

import numpy as np
import pytest

from cellgate.bundle.errors import BundleError
from cellgate.serve.engine import models
from cellgate.serve.engine.models import open_engine_models, open_proved
from cellgate.serve.engine.plan import POOL_ROWS
from cellgate.serve.errors import EngineError
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.error_words import start_error_from_report, start_error_to_report
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import GoldenMismatchError, MeasuringError, NameConflictError, ServerStartError

ONE = Settings(device="cpu", threads=1, max_lanes=4)


@pytest.fixture
def opened(monkeypatch):
    """Every runtime that was opened, in order."""
    found = []
    real = models.open_runtime

    def open_runtime(*args, **options):
        found.append(real(*args, **options))
        return found[-1]

    monkeypatch.setattr(models, "open_runtime", open_runtime)
    yield found
    for runtime in found:
        runtime.close()


@pytest.fixture
def quick(monkeypatch, make_cost):
    """Calibration by decree: the cost of a step for each number of threads, or an error."""

    def decree(**step_s):
        def calibrate(runtime, max_rows, *, on_device=False):
            found = step_s.get(f"threads_{runtime.facts.threads}", 1e-6)
            if isinstance(found, Exception):
                raise found
            return make_cost(step_s=found, max_rows=max_rows)

        monkeypatch.setattr(models, "calibrate", calibrate)

    decree()
    return decree


def is_closed(runtime):
    try:
        runtime.run({})
    except EngineError as err:
        return "found it closed" in str(err)
    return False


def test_every_bundle_is_opened_proved_and_measured(bundle_paths, opened):
    found = open_engine_models([BundlePlace(path) for path in bundle_paths.values()], ONE)

    assert [model.served.name for model in found] == list(bundle_paths)
    assert [model.runtime for model in found] == opened
    assert all(model.served.golden.passed for model in found)
    assert [model.served.facts for model in found] == [runtime.facts for runtime in opened]
    assert all(model.cost.max_rows == 4 for model in found)
    assert all(0 < model.cost.unit_s < 1 for model in found)
    assert not any(is_closed(runtime) for runtime in opened)


def test_more_lanes_than_a_run_can_have_rows_are_measured_up_to_there(bundle_paths, opened, quick):
    (model,) = open_engine_models([BundlePlace(bundle_paths["last"])], Settings(device="cpu", threads=1, max_lanes=500))

    assert model.cost.max_rows == POOL_ROWS


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_that_were_asked_for_are_obeyed(bundle_paths, opened, quick, threads):
    quick(threads_1=9e-3, threads_2=1e-3, threads_3=5e-3)

    (model,) = open_engine_models([BundlePlace(bundle_paths["last"])], Settings(device="cpu", threads=threads))

    assert [runtime.facts.threads for runtime in opened] == [threads]
    assert model.served.facts.threads == threads


@pytest.mark.parametrize(
    ("cpus", "costs", "expected"),
    [
        pytest.param(1, {}, 1, id="one CPU"),
        pytest.param(4, {"threads_1": 4e-5, "threads_4": 1e-5}, 4, id="several are much faster"),
        pytest.param(4, {"threads_1": 1.1e-5, "threads_4": 1e-5}, 1, id="several are a little faster"),
        pytest.param(4, {"threads_1": 1e-5, "threads_4": 4e-5}, 1, id="several are slower"),
    ],
)
def test_without_being_told_the_faster_number_of_threads_is_kept_and_the_other_closed(
    bundle_paths, opened, quick, monkeypatch, cpus, costs, expected
):
    monkeypatch.setattr(models, "usable_cpus", lambda: cpus)
    quick(**costs)

    (model,) = open_engine_models([BundlePlace(bundle_paths["last"])], Settings(device="cpu"))

    assert model.served.facts.threads == model.runtime.facts.threads == expected
    assert [is_closed(runtime) for runtime in opened] == [runtime is not model.runtime for runtime in opened]
    assert model.cost.step_s[8] == pytest.approx(costs.get(f"threads_{expected}", 1e-6) + 8e-6)


def test_another_device_than_the_cpu_is_not_asked_about_threads(bundle_paths, quick, monkeypatch, make_runtime):
    """A runtime that says it is on CUDA: one is opened, with one thread."""
    real = models.open_runtime
    asked = []

    class OnCuda:
        device = "cuda"

        def __init__(self, runtime):
            self._runtime = runtime

        def __getattr__(self, name):
            return getattr(self._runtime, name)

    def open_runtime(bundle, *, device, threads, tf32, kernels):
        asked.append((device, threads))
        return OnCuda(real(bundle, device="cpu", threads=threads))

    monkeypatch.setattr(models, "open_runtime", open_runtime)
    monkeypatch.setattr(models, "usable_cpus", lambda: 8)

    (model,) = open_engine_models([BundlePlace(bundle_paths["last"])], Settings(device="auto"))
    model.runtime.close()

    assert asked == [("auto", 1)]


def test_bundle_whose_golden_cases_are_not_reproduced_is_refused_and_all_are_closed(
    bundle_paths, make_network, opened, quick, tmp_path
):
    network = make_network("steps")
    golden = network.golden()
    golden[1].outputs["y"][0, 2, 1] += 0.5
    network.write(tmp_path / "wrong", golden=golden)

    with pytest.raises(GoldenMismatchError, match=r"bundle wrong: .* y off by 0\.5 at \[0, 2, 1\] of case ragged"):
        open_engine_models([BundlePlace(bundle_paths["last"]), BundlePlace(tmp_path / "wrong", "wrong")], ONE)

    assert [is_closed(runtime) for runtime in opened] == [True, True]


def test_nothing_is_opened_where_a_bundle_is_damaged(bundle_paths, opened, tmp_path):
    with pytest.raises(BundleError):
        open_engine_models([BundlePlace(bundle_paths["last"]), BundlePlace(tmp_path)], ONE)

    assert opened == []


def test_nothing_is_opened_where_two_have_one_name(bundle_paths, opened):
    with pytest.raises(NameConflictError):
        open_engine_models([BundlePlace(bundle_paths["last"])] * 2, ONE)

    assert opened == []


def test_no_bundle_is_refused():
    with pytest.raises(ServerStartError, match="expected at least one"):
        open_engine_models([], ONE)


def test_network_that_cannot_be_measured_is_refused_and_all_are_closed(bundle_paths, opened, quick, monkeypatch):
    """The graph fails at a size that its golden cases do not have. The error is one that ends the start with words."""
    monkeypatch.setattr(models, "usable_cpus", lambda: 1)
    places = [BundlePlace(bundle_paths["last"]), BundlePlace(bundle_paths["steps"])]
    calls = []
    real = models.calibrate

    def calibrate(runtime, max_rows, *, on_device=False):
        calls.append(runtime)
        if len(calls) == 2:
            raise EngineError("runtime: expected it to run the batch, found it refused")
        return real(runtime, max_rows)

    monkeypatch.setattr(models, "calibrate", calibrate)

    with pytest.raises((EngineError, ServerStartError)):
        open_engine_models(places, ONE)

    assert [is_closed(runtime) for runtime in opened] == [True, True]


def test_a_runtime_that_refuses_to_be_measured_is_told_with_its_own_words_across_processes(
    bundle_paths, opened, monkeypatch
):
    """Really refused by onnxruntime, which says of the missing inputs what no shape in our own sentence says."""
    monkeypatch.setattr(models, "calibrate", lambda runtime, _rows, **_: runtime.run({"x": np.zeros((1, 2, 2), "f4")}))

    with pytest.raises(MeasuringError) as caught:
        open_engine_models([BundlePlace(bundle_paths["steps"])], ONE)
    told = start_error_from_report(json.loads(json.dumps(start_error_to_report(caught.value))))

    assert type(told) is MeasuringError
    assert re.fullmatch(
        r"bundle steps: expected the time of its runs to be measured, found: runtime: expected it to run the batch, "
        r"found it refused \(.*\): .*Required inputs.*; try --device cpu, or export again .*",
        str(told),
    )
    assert [is_closed(runtime) for runtime in opened] == [True]


@pytest.mark.parametrize("failing", ["opening", "measuring"])
def test_second_number_of_threads_that_fails_closes_the_first(bundle_paths, opened, quick, monkeypatch, failing):
    monkeypatch.setattr(models, "usable_cpus", lambda: 2)
    if failing == "measuring":
        quick(threads_2=EngineError("no"))
    else:
        open_runtime = models.open_runtime

        def refuse(bundle, *, device, threads, tf32, kernels):
            if threads == 2:
                raise ServerStartError("no")
            return open_runtime(bundle, device=device, threads=threads)

        monkeypatch.setattr(models, "open_runtime", refuse)

    with pytest.raises((EngineError, ServerStartError)):
        open_engine_models([BundlePlace(bundle_paths["last"])], Settings(device="cpu"))

    assert opened
    assert all(is_closed(runtime) for runtime in opened)


def test_fault_while_the_record_is_made_closes_the_runtime(bundle_paths, opened, quick, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(models, "make_served_model", fail)

    with pytest.raises(ZeroDivisionError):
        open_engine_models([BundlePlace(bundle_paths["last"])], ONE)

    assert [is_closed(runtime) for runtime in opened] == [True]


def test_one_bundle_is_opened_and_proved_without_an_engine(bundle_paths, opened):
    served, runtime = open_proved(BundlePlace(bundle_paths["last"], "other"), ONE)

    assert [runtime] == opened
    assert (served.name, served.golden.passed, served.facts) == ("other", True, runtime.facts)
    assert not is_closed(runtime)


def test_one_bundle_that_is_not_reproduced_is_closed(make_network, opened, tmp_path):
    network = make_network("last")
    golden = network.golden()
    golden[0].outputs["c_n"][0, 0, 0] = 9
    network.write(tmp_path / "wrong", golden=golden)

    with pytest.raises(GoldenMismatchError):
        open_proved(BundlePlace(tmp_path / "wrong"), ONE)

    assert [is_closed(runtime) for runtime in opened] == [True]


def test_answers_of_an_opened_model_are_those_of_its_bundle(bundle_paths, bundles, opened, make_limits, drain):
    """From the bundle to an answer: the golden case's inputs give its outputs."""
    from cellgate.serve.engine.engine import Engine
    from cellgate.serve.engine.work import Work

    model = open_engine_models([BundlePlace(bundle_paths["steps"])], ONE)[0]
    case = next(case for case in bundles["steps"].golden if case.id == "ragged")
    engine = Engine([model], make_limits(max_lanes=2))
    work = Work(
        model="steps",
        sequence=case.inputs["x"],
        lengths=case.inputs["lengths"],
        states=(case.inputs["h0"], case.inputs["c0"]),
        outputs=("c_n", "y"),
    )

    engine.submit(1, work)
    results = []
    while not results:
        results = engine.run_once()

    ((_, answer),) = results
    assert list(answer) == ["c_n", "y"]
    for name, array in answer.items():
        assert np.abs(array - case.outputs[name]).max() <= model.served.manifest.tolerances[name]
    engine.close()
    assert is_closed(model.runtime)
