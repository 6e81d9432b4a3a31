"""The checker can fail: every defect that an exporter has had is objected to, and what is right passes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import Artefacts, build, refusal, verify_artefacts
from cellgate.export.proof.cases import grid
from cellgate.export.proof.graph_legs import RuntimeLeg
from cellgate.export.proof.laws import LAW_CASES
from cellgate.export.proof.oracle import Oracle
from cellgate.export.proof.report import Report
from cellgate.export.proof.torch_legs import EagerLeg
from cellgate.export.proof.verify import Contest, VerifyOptions, compare_all, tool_versions, verify
from cellgate.model import SequenceModel

from .. import graph_surgery as surgery

pytestmark = pytest.mark.long

_OPTIONS = ExportOptions(name="checked", verify=VerifyOptions(drift_steps=50, threads=1))
# Enough to tell right from wrong, where a test needs one case and not the whole grid.
_CASE = "B3-T7-ragged-random"


def _build(network: nn.Module) -> Artefacts:
    return build(network, _OPTIONS)


def _verified(artefacts: Artefacts, model: bytes | None = None, *, only: str | None = None) -> Report:
    options = dataclasses.replace(_OPTIONS, verify=VerifyOptions(drift_steps=50, threads=1, only_case=only))
    changed = artefacts if model is None else dataclasses.replace(artefacts, model=model)
    return verify_artefacts(changed, options)


@pytest.fixture(scope="module")
def lstm() -> Artefacts:
    torch.manual_seed(3)
    return _build(SequenceModel(3, 5, 7))


@pytest.fixture(scope="module")
def both_ways() -> Artefacts:
    torch.manual_seed(4)
    return _build(SequenceModel(3, 5, 2, bidirectional=True))


@pytest.fixture(scope="module")
def right(lstm) -> Report:
    return _verified(lstm)


@pytest.mark.no_cover
def test_a_right_network_is_equivalent_under_every_leg_and_case(right, lstm):
    assert right.verdict == "equivalent"
    assert [leg.name for leg in right.legs] == ["eager", "torchscript", "onnxruntime", "onnx reference", "torch.nn"]
    assert not any(leg.complaint for leg in right.legs)
    assert [case.id for case in right.cases] == [c.id for c in grid(lstm.exportable.signature, drift_steps=50)]
    assert right.failures() == []
    assert right.streamable


def test_growth_histogram_and_percentiles_are_of_what_was_compared(right):
    assert [point.steps for point in right.growth] == [1, 3, 10, 30, 50]
    assert all(set(point.max_abs) == {"eager", "onnxruntime", "torch.nn"} for point in right.growth)
    longest, end = right.cases[-1], right.growth[-1]
    given = {leg.leg: max(found.max_abs for found in leg.outputs.values()) for leg in longest.legs}
    assert end.steps == longest.steps
    assert end.max_abs == {leg: given[leg] for leg in end.max_abs}
    values = sum(right.histogram.counts) + right.histogram.exact
    assert values == sum(case.rows * (case.steps * 7 + 5 + 5) for case in right.cases)
    for case in right.cases:
        for leg in case.legs:
            for found in leg.outputs.values():
                assert found.p50 <= found.p90 <= found.p99 <= found.max_abs <= found.tolerance


@pytest.mark.covering("gates-swapped")
@pytest.mark.parametrize(
    "defect",
    [
        pytest.param(surgery.weight(".w", surgery.swap_gates), id="gates-swapped"),
        pytest.param(surgery.input_of("LSTM", 3, ""), id="bias-dropped"),
        pytest.param(surgery.input_of("LSTM", 4, ""), id="lengths-ignored"),
        pytest.param(surgery.zero_state, id="state-ignored"),
        pytest.param(surgery.exchange_states, id="h0-and-c0-exchanged"),
        pytest.param(surgery.one_step_short, id="one-step-short"),
        pytest.param(surgery.all_weights_to_half, id="weights-to-float16"),
        pytest.param(surgery.weight("val_3", surgery.one_element_off), id="head-weight-off-by-a-thousandth"),
        pytest.param(surgery.weight(".r", surgery.one_element_off), id="recurrent-weight-off-by-a-thousandth"),
        pytest.param(surgery.approximate_tanh, id="tanh-approximated"),
        pytest.param(surgery.hard_sigmoid, id="sigmoid-approximated"),
        pytest.param(surgery.after_y("Add", np.float32([np.nan])), id="nan"),
        pytest.param(surgery.after_y("Add", np.float32([1e-4])), id="y-off-by-a-ten-thousandth"),
    ],
)
def test_wrong_values_are_not_equivalent_and_the_case_is_named(defect, lstm):
    report = _verified(lstm, defect(lstm.model))

    assert report.verdict == "not equivalent"
    worst = report.worst()
    assert worst.case in {case.id for case in report.cases} | set(LAW_CASES)
    assert any(failure.case in {case.id for case in report.cases} for failure in report.failures())
    assert worst.leg in {"onnxruntime", "onnx reference"}
    assert f"--case {worst.case}" in refusal(worst, len(report.failures()), lambda case: f"--case {case}")
    json.loads(report.to_json())


@pytest.mark.parametrize(
    ("defect", "complaint"),
    [
        pytest.param(surgery.drop_output, "outputs are y, h_n, expected y, h_n, c_n", id="output-dropped"),
        pytest.param(surgery.add_output, "outputs are y, h_n, c_n, more, expected y, h_n, c_n", id="output-added"),
        pytest.param(
            surgery.after_y("ReduceMax", np.int64([2]), keepdims=1),
            "y has shape (3, 7, 1), expected (3, 7, 7)",
            id="broadcastable-shape",
        ),
        pytest.param(surgery.after_y("Cast", to=11), "y is float64, expected float32", id="dtype"),
    ],
)
def test_a_wrong_form_is_not_equivalent_whatever_the_values(defect, complaint, lstm):
    report = _verified(lstm, defect(lstm.model), only=_CASE)

    assert report.verdict == "not equivalent"
    assert next(leg.complaint for leg in report.cases[0].legs if leg.leg == "onnxruntime") == complaint
    assert report.worst().case == _CASE
    assert complaint in refusal(report.worst(), 1, str)


def test_a_wrong_form_is_reported_over_the_whole_grid_and_laws_are_left_out(lstm):
    report = _verified(lstm, surgery.drop_output(lstm.model))

    assert report.verdict == "not equivalent"
    assert len([w for w in report.failures() if w.leg == "onnxruntime"]) == len(report.cases)
    assert (report.laws, report.growth) == ((), ())
    assert not report.control.passed
    assert not report.streamable


def test_a_graph_that_the_runtime_gives_up_on_is_a_finding_not_a_crash(lstm):
    stops = surgery.after_y("Reshape", np.int64([1, 1, 7]))

    report = _verified(lstm, stops(lstm.model), only=_CASE)

    assert report.verdict == "not equivalent"
    assert "stopped with" in report.worst().complaint


class _TiresAfterForty(EagerLeg):
    def run(self, inputs):
        if inputs["x"].shape[1] > 40:
            raise MemoryError("forty steps are enough")
        return super().run(inputs)


def test_a_leg_that_stops_at_long_sequences_is_a_finding_and_takes_no_part_in_the_growth(lstm):
    served = RuntimeLeg(lstm.model, lstm.exportable.signature, lstm.session, 1)
    tired = _TiresAfterForty(lstm.exportable)
    contest = Contest(
        signature=lstm.exportable.signature,
        description={},
        oracle=Oracle(lstm.exportable),
        legs=(served, tired),
        served=served,
        grown=(served, tired),
        no_control="",
    )

    report = compare_all(contest, _OPTIONS.verify)

    assert report.verdict == "not equivalent"
    assert report.worst().complaint == "stopped with MemoryError: forty steps are enough"
    assert all(set(point.max_abs) == {"onnxruntime"} for point in report.growth)


def test_where_no_growth_is_asked_for_there_is_none(lstm):
    served = RuntimeLeg(lstm.model, lstm.exportable.signature, lstm.session, 1)
    contest = Contest(
        signature=lstm.exportable.signature,
        description={},
        oracle=Oracle(lstm.exportable),
        legs=(served,),
        served=served,
        grown=(),
        no_control="",
    )

    report = compare_all(contest, _OPTIONS.verify)

    assert (report.verdict, report.growth) == ("equivalent", ())


def test_an_operator_that_the_evaluator_cannot_run_takes_that_leg_out_and_says_so(lstm):
    report = _verified(lstm, surgery.hard_sigmoid(lstm.model), only=_CASE)

    judge = next(leg for leg in report.legs if leg.name == "onnx reference")
    assert judge.complaint == "not applicable: the evaluator ignores activations"
    assert "onnx reference" not in {leg.leg for leg in report.cases[0].legs}


@pytest.mark.no_cover
def test_directions_in_the_wrong_order_are_not_equivalent(both_ways):
    assert _verified(both_ways).verdict == "equivalent"
    assert _verified(both_ways, surgery.both_directions_forward(both_ways.model)).verdict == "not equivalent"


@pytest.mark.no_cover
def test_a_network_that_needs_the_whole_sequence_is_equivalent_but_not_streamable(both_ways):
    report = _verified(both_ways)

    chunks = next(law for law in report.laws if law.name == "chunks")
    assert chunks.applies
    assert not chunks.passed
    assert report.verdict == "equivalent"
    assert not report.streamable


def test_an_eager_network_that_differs_from_the_oracle_is_not_equivalent(lstm, monkeypatch):
    run = EagerLeg.run
    monkeypatch.setattr(
        EagerLeg, "run", lambda self, inputs: {k: v + np.float32(1e-3) for k, v in run(self, inputs).items()}
    )

    report = _verified(lstm, only=_CASE)

    assert report.verdict == "not equivalent"
    assert report.worst().leg == "eager"


@pytest.mark.no_cover
def test_chaos_is_reported_as_sensitive_and_not_as_failed():
    torch.manual_seed(5)
    network = SequenceModel(12, 48)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(16.0)
    artefacts = _build(network)

    report = _verified(artefacts, only="B2-T300")

    assert report.verdict == "sensitive"
    assert "y" in report.cases[0].sensitive
    assert report.worst().case == "B2-T300"
    assert _verified(artefacts, surgery.weight(".w", surgery.swap_gates)(artefacts.model)).verdict == "not equivalent"


def test_one_case_alone_is_the_same_as_among_the_others(right, lstm):
    alone = _verified(lstm, only=_CASE)

    assert alone.cases == tuple(case for case in right.cases if case.id == _CASE)
    assert (alone.laws, alone.growth) == ((), ())


def test_the_laws_can_be_run_alone(right, lstm):
    alone = _verified(lstm, only="laws-order")

    assert alone.cases == ()
    assert alone.laws == right.laws
    assert alone.verdict == "equivalent"
    assert alone.worst().case.startswith("laws-")


def test_an_unknown_case_is_refused_with_those_that_there_are(lstm):
    with pytest.raises(ValueError, match=r"case 'B9-T9' is not in the grid, expected one of B1-T1, .*, laws-chunks"):
        _verified(lstm, only="B9-T9")


def test_a_report_is_the_same_each_time(right, lstm):
    assert _verified(lstm).to_json() == right.to_json()


def test_progress_names_the_cases_and_reaches_the_end(lstm):
    seen: list[tuple[str, int, int]] = []

    verify(
        lstm.exportable,
        lstm.model,
        lstm.scripted,
        lstm.session,
        VerifyOptions(drift_steps=50, threads=1, only_case=_CASE),
        lambda *step: seen.append(step),
    )

    assert seen == [(_CASE, 0, 1), ("laws", 1, 1)]


def test_tools_are_named_with_their_versions():
    found = tool_versions()

    assert {"python", "torch", "onnx", "onnxscript", "onnxruntime", "numpy"} <= set(found)
    assert (
        found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    )  # a build's own suffix may be left out


@pytest.mark.no_cover
@pytest.mark.parametrize("reads", ["every_step", "last_step", "mean", "max"])
@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell"])
def test_what_is_served_is_at_most_twice_as_wrong_as_torch_itself(cell, reads):
    torch.manual_seed(11)
    artefacts = _build(SequenceModel(6, 33, 4, cell=cell, reads=reads))

    report = _verified(artefacts)

    assert report.verdict == "equivalent"
    assert report.control.complaint == ""
    assert report.control.passed, (report.control.ours, report.control.bound)


@pytest.mark.no_cover
@pytest.mark.parametrize("reads", ["every_step", "mean"])
def test_narrow_lstms_miss_the_control_only_from_large_states_and_pass_all_the_same(reads):
    torch.manual_seed(11)
    report = _verified(_build(SequenceModel(6, 5, 4, reads=reads)))
    largest: dict[tuple[str, str], float] = {}
    for case in report.cases:
        for leg in case.legs:
            for name, found in leg.outputs.items():
                if case.state != "large":
                    largest[leg.leg, name] = max(largest.get((leg.leg, name), 0.0), found.max_abs)

    assert report.verdict == "equivalent"
    assert not report.control.passed
    assert report.control.ours["h_n"] > report.control.bound["h_n"]
    assert all(
        report.control.ours[name] <= report.control.bound[name]
        for name in ("c_n", "pool_n")
        if name in report.control.ours
    )
    for name in report.control.bound:
        assert largest["onnxruntime", name] <= 2 * largest["torch.nn", name] + np.spacing(np.float32(0.5)), name


class _Foreign(nn.Module):
    """No lengths, no state in its forward, and something that TorchScript does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.head(y[:, -1])


@pytest.mark.no_cover
def test_a_foreign_module_is_verified_in_float64_by_itself_and_its_script_gives_y_alone():
    torch.manual_seed(6)
    report = _verified(_build(_Foreign()))

    script = next(leg for leg in report.legs if leg.name == "torchscript")
    assert report.verdict == "equivalent"
    assert report.oracle == "the module in float64, each row unpadded"
    assert set(script.max_abs) == {"y"}
