"""The legs: what each runs, what each cannot, and that it says so."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from cellgate.bundle.manifest import SessionOptions
from cellgate.export.cases import Case, make_inputs
from cellgate.export.compare import same_bits
from cellgate.export.error_line import first_line
from cellgate.export.exportable import Exportable, prepare
from cellgate.export.graph_legs import ReferenceLeg, RuntimeLeg
from cellgate.export.leg import LegUnableError
from cellgate.export.onnx_graph import export_onnx
from cellgate.export.pipeline import Artefacts, ExportOptions, build
from cellgate.export.torch_legs import ControlLeg, EagerLeg, ScriptLeg, named
from cellgate.export.torchscript import export_torchscript
from cellgate.export.verify import VerifyOptions, verify
from cellgate.model import SequenceModel

_RAGGED = Case(id="legs", rows=5, steps=6, ragged=True, state="random")


class _Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return self.head(y)


@pytest.fixture(scope="module")
def built() -> Artefacts:
    torch.manual_seed(1)
    return build(SequenceModel(3, 5, 2), ExportOptions(name="legs"))


@pytest.fixture(scope="module")
def foreign() -> Exportable:
    torch.manual_seed(2)
    return prepare(_Foreign())


def test_all_legs_give_the_same_to_rounding(built):
    exportable, signature = built.exportable, built.exportable.signature
    inputs = make_inputs(_RAGGED, signature)
    eager = EagerLeg(exportable).run(inputs)

    for leg in (
        ScriptLeg(exportable, built.scripted.module, ""),
        RuntimeLeg(built.model, signature, built.session),
        ReferenceLeg(built.model, signature),
        ControlLeg(exportable),
    ):
        found = leg.run(inputs)
        rows = leg.rows_for(inputs)
        assert list(found) == list(leg.output_names) == ["y", "h_n", "c_n"]
        assert np.abs(found["y"] - eager["y"][:rows]).max() < 1e-6
        assert np.abs(found["c_n"] - eager["c_n"][:, :rows]).max() < 1e-6


def test_the_evaluator_takes_the_first_rows_of_short_cases_alone(built):
    leg = ReferenceLeg(built.model, built.exportable.signature)

    def rows(count: int, steps: int) -> int:
        return leg.rows_for(make_inputs(Case(id="r", rows=count, steps=steps), built.exportable.signature))

    assert [rows(1, 31), rows(9, 31), rows(9, 32)] == [1, 3, 0]


def test_every_other_leg_takes_every_row(built):
    inputs = make_inputs(_RAGGED, built.exportable.signature)

    for leg in (
        EagerLeg(built.exportable),
        ScriptLeg(built.exportable, built.scripted.module, ""),
        RuntimeLeg(built.model, built.exportable.signature, built.session),
        ControlLeg(built.exportable),
    ):
        assert leg.rows_for(inputs) == _RAGGED.rows


def test_the_script_of_a_foreign_module_gives_y_from_zero_state_only(foreign):
    scripted = export_torchscript(foreign)
    leg = ScriptLeg(foreign, scripted.module, scripted.reason)
    zero = make_inputs(dataclasses.replace(_RAGGED, state="zero"), foreign.signature)

    found = leg.run(zero)

    assert leg.output_names == ("y",)
    assert leg.rows_for(make_inputs(_RAGGED, foreign.signature)) == 0
    assert leg.rows_for(zero) == _RAGGED.rows
    assert np.abs(found["y"] - EagerLeg(foreign).run(zero)["y"]).max() < 1e-6


def test_a_leg_without_torchscript_says_why(foreign):
    assert ScriptLeg(foreign, None, "RuntimeError: gone").complaint == "RuntimeError: gone"


@pytest.mark.parametrize(
    ("attribute", "ignored"),
    [
        pytest.param({"activations": ["Sigmoid", "Tanh", "Relu"]}, "activations", id="activations"),
        pytest.param({"activations": ["sigmoid", "TANH", "Tanh"]}, None, id="default-activations"),
        pytest.param({"clip": 3.0}, "clip", id="clip"),
    ],
)
def test_the_evaluator_does_not_judge_what_it_would_ignore(attribute, ignored, built):
    proto = onnx.load_from_string(built.model)
    recurrent = next(node for node in proto.graph.node if node.op_type == "LSTM")
    recurrent.attribute.extend(helper.make_attribute(*pair) for pair in attribute.items())

    complaint = ReferenceLeg(proto.SerializeToString(), built.exportable.signature).complaint

    assert complaint == (f"not applicable: the evaluator ignores {ignored}" if ignored else "")


def with_other_lens(model: bytes, *operators: tuple[str, ...]) -> bytes:
    """Return a graph whose LSTM reads its sequence_lens through these operators, each with its constants."""
    proto = onnx.load_from_string(model)
    recurrent = next(node for node in proto.graph.node if node.op_type == "LSTM")
    nodes, name = [], recurrent.input[4]
    assert name, "the graph was to have lengths"
    constants = {"zero": 0, "one": 1, "two": 2, "many": 99}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, np.int32), key) for key, value in constants.items()
    )
    for number, (operator, *further) in enumerate(operators):
        nodes.append(helper.make_node(operator, [name, *further], [f"lens{number}"]))
        name = f"lens{number}"
    recurrent.input[4] = name
    place = list(proto.graph.node).index(recurrent)
    changed = [*proto.graph.node[:place], *nodes, *proto.graph.node[place:]]
    del proto.graph.node[:]
    proto.graph.node.extend(changed)
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("operators", "ends_early"),
    [
        pytest.param([("Identity",), ("Clip", "one", "many"), ("Min", "many")], False, id="as-long-as-the-lengths"),
        pytest.param([("Add", "one"), ("Sub", "one")], False, id="computed-and-equal"),
        pytest.param([("Sub", "one")], True, id="one-less"),
        pytest.param([("Identity",), ("Min", "two")], True, id="at-most-two"),
        pytest.param([("Mul", "zero"), ("Add", "one")], True, id="one-for-every-row"),
    ],
)
def test_the_evaluator_judges_only_rows_that_its_nodes_run_to_the_end(operators, ends_early, built):
    signature, inputs = built.exportable.signature, make_inputs(_RAGGED, built.exportable.signature)
    model = with_other_lens(built.model, *operators)
    leg = ReferenceLeg(model, signature)

    assert leg.complaint == ""
    if ends_early:
        with pytest.raises(LegUnableError, match="ignores sequence_lens, which end a row before its last step"):
            leg.run(inputs)
        assert leg.complaint.startswith("not applicable: the evaluator ignores sequence_lens")
    else:
        served = RuntimeLeg(model, signature, built.session).run(inputs)
        assert np.abs(leg.run(inputs)["y"] - served["y"][:3]).max() < 1e-6


def test_sequence_lens_in_a_subgraph_are_not_judged_by_the_evaluator(built):
    proto = onnx.load_from_string(with_other_lens(built.model))
    inner = helper.make_graph(list(proto.graph.node), "inner", [], list(proto.graph.output))
    names = [value.name for value in proto.graph.output]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    del proto.graph.node[:]
    proto.graph.node.append(helper.make_node("If", ["always"], names, then_branch=inner, else_branch=inner))

    complaint = ReferenceLeg(proto.SerializeToString(), built.exportable.signature).complaint

    assert complaint.startswith("not applicable: the evaluator ignores sequence_lens")


class _PaddedTokens(nn.Module):
    """Counts its steps itself: token 0 is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(6, 4, padding_idx=0), nn.LSTM(4, 5, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        count = (tokens != 0).sum(1).clamp(min=1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(tokens), count.cpu(), batch_first=True, enforce_sorted=False
        )
        return self.lstm(packed)[1][0][-1]


def test_a_network_that_counts_its_own_steps_is_judged_by_the_others():
    torch.manual_seed(6)
    made = build(_PaddedTokens(), ExportOptions(name="padded"))

    report = verify(made.exportable, made.model, made.scripted, made.session, VerifyOptions(only_case="B5-T17"))

    complaints = {leg.name: leg.complaint for leg in report.legs}
    assert report.verdict == "equivalent"
    assert "sequence_lens" in complaints["onnx reference"]
    assert complaints["onnxruntime"] == complaints["eager"] == complaints["torch.nn"] == ""


def test_coupled_gates_are_not_judged_by_the_evaluator():
    torch.manual_seed(3)
    artefacts = build(SequenceModel(3, 5, cell="CoupledLSTMCell"), ExportOptions(name="coupled"))

    complaint = ReferenceLeg(artefacts.model, artefacts.exportable.signature).complaint

    assert complaint in {"", "not applicable: the evaluator ignores input_forget"}
    assert bool(complaint) is ("LSTM" in {node.op_type for node in onnx.load_from_string(artefacts.model).graph.node})


def test_a_scan_that_runs_backwards_is_not_judged_by_the_evaluator():
    torch.manual_seed(3)
    network = SequenceModel(3, 5, cell="LayerNormLSTMCell", bidirectional=True)
    artefacts = build(network, ExportOptions(name="backwards"))

    complaint = ReferenceLeg(artefacts.model, artefacts.exportable.signature).complaint

    # Other versions of the evaluator may run it; that they judge it then, and rightly, is what verify finds.
    assert complaint == "" or complaint.startswith(
        "not applicable: the evaluator stopped with RuntimeError: Scan is not"
    )


def test_an_evaluator_that_stops_half_way_takes_itself_out_with_the_reason(built):
    proto = onnx.load_from_string(built.model)
    for node in proto.graph.node:
        node.output[:] = ["before" if name == "y" else name for name in node.output]
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [3])
    proto.graph.initializer.append(shape)
    proto.graph.node.append(helper.make_node("Reshape", ["before", "shape"], ["y"]))
    leg = ReferenceLeg(proto.SerializeToString(), built.exportable.signature)

    with pytest.raises(LegUnableError, match="not applicable: the evaluator stopped with ValueError: cannot reshape"):
        leg.run(make_inputs(_RAGGED, built.exportable.signature))

    assert leg.complaint.startswith("not applicable: the evaluator stopped with ValueError")


def test_control_says_what_torch_cannot_express():
    torch.manual_seed(4)

    complaint = ControlLeg(prepare(SequenceModel(3, 5, cell="PeepholeLSTMCell"))).complaint

    assert complaint.startswith("not applicable: PeepholeLSTMCell has peepholes, which torch.nn has no module for")


@pytest.mark.parametrize("reads", ["every_step", "last_step", "mean", "max"])
def test_control_runs_each_row_alone_from_given_states(reads):
    torch.manual_seed(5)
    exportable = prepare(SequenceModel(3, 5, 2, cell="GRUCell", num_layers=2, bidirectional=True, reads=reads))
    inputs = make_inputs(_RAGGED, exportable.signature)

    found, expected = ControlLeg(exportable).run(inputs), EagerLeg(exportable).run(inputs)

    assert list(found) == list(expected)
    assert max(np.abs(found[name] - expected[name]).max() for name in found) < 1e-5


def test_the_runtime_is_opened_with_the_options_of_the_bundle(built):
    signature = built.exportable.signature
    inputs = make_inputs(_RAGGED, signature)
    plain = RuntimeLeg(built.model, signature, SessionOptions(graph_optimization_level="disable"), threads=1)
    chosen = RuntimeLeg(
        built.model,
        signature,
        SessionOptions(execution_mode="parallel", config={"session.intra_op.allow_spinning": "0"}),
    )

    options = chosen._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.execution_mode.name == "ORT_PARALLEL"
    assert plain._session.get_session_options().graph_optimization_level.name == "ORT_DISABLE_ALL"
    assert same_bits(plain.run(inputs), plain.run(inputs))


def test_more_or_fewer_tensors_than_outputs_show_in_the_names(built):
    one = torch.zeros(1)

    assert list(named([one], built.exportable.signature)) == ["y"]
    assert list(named([one] * 4, built.exportable.signature)) == ["y", "h_n", "c_n", "extra0"]


def test_an_error_is_told_by_its_first_line():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(ValueError()) == "no reason given"
    assert len(first_line(ValueError("x" * 1000))) == 300


def test_the_evaluator_runs_a_saturated_scan_without_a_warning_and_gives_finite_values() -> None:
    torch.manual_seed(0)
    network = SequenceModel(3, 4, cell="ProjectedLSTMCell", projection_dim=2)
    exportable = prepare(network)
    leg = ReferenceLeg(export_onnx(exportable), exportable.signature)
    case = Case(id="B2-T24-saturated", rows=2, steps=24, magnitude="saturated", state="large")

    found = leg.run(make_inputs(case, exportable.signature))

    assert leg.complaint == ""
    assert all(np.isfinite(array).all() for array in found.values())


class _Named(nn.Module):
    """A cell of somebody's own, and the loop that he has written over it."""

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(7, 4)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(self.mix(torch.cat([x, h], 1)))
            return h, h

    def __init__(self) -> None:
        super().__init__()
        self.cell = self.Cell()

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, seen = torch.zeros(x.size(0), 4) if h is None else h, []
        for step in x.unbind(1):
            y, h = self.cell(step, h)
            seen.append(y)
        return torch.stack(seen, 1), h


class _Rolled(_Named):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x.flip(2))[0].exp()


@pytest.mark.parametrize(
    ("network", "name"),
    [
        pytest.param(_Named(), "Cell", id="adopted"),
        pytest.param(_Rolled(), "the loop of _Rolled", id="rolled-up"),
        pytest.param(nn.RNN(3, 4, batch_first=True), "nn.RNNCell", id="of-torch"),
    ],
)
def test_layers_and_the_missing_control_are_named_as_people_know_them(network: nn.Module, name: str) -> None:
    exportable = prepare(network)

    assert [layer.cell for layer in exportable.layers] == [name]
    assert ControlLeg(exportable).complaint.startswith(
        f"not applicable: {name} is no cell of cellgate.model, where LSTM"
    )
