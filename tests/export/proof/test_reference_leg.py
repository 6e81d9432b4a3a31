"""The leg of the evaluator of the onnx package: which rows it runs, and where it stands aside."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import Artefacts, build
from cellgate.export.proof.cases import Case, make_inputs
from cellgate.export.proof.graph_legs import ReferenceLeg, RuntimeLeg
from cellgate.export.proof.leg import LegUnableError
from cellgate.export.proof.verify import VerifyOptions, verify
from cellgate.model import SequenceModel

_RAGGED = Case(id="legs", rows=5, steps=6, ragged=True, state="random")


@pytest.fixture(scope="module")
def built() -> Artefacts:
    torch.manual_seed(1)
    return build(SequenceModel(3, 5, 2), ExportOptions(name="legs"))


def test_the_evaluator_takes_the_first_rows_of_short_cases_alone(built):
    leg = ReferenceLeg(built.model, built.exportable.signature)

    def rows(count: int, steps: int) -> int:
        return leg.rows_for(make_inputs(Case(id="r", rows=count, steps=steps), built.exportable.signature))

    assert [rows(1, 31), rows(9, 31), rows(9, 32)] == [1, 3, 0]


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


def test_the_evaluator_runs_a_saturated_scan_without_a_warning_and_gives_finite_values() -> None:
    torch.manual_seed(0)
    network = SequenceModel(3, 4, cell="ProjectedLSTMCell", projection_dim=2)
    exportable = prepare(network)
    leg = ReferenceLeg(export_onnx(exportable), exportable.signature)
    case = Case(id="B2-T24-saturated", rows=2, steps=24, magnitude="saturated", state="large")

    found = leg.run(make_inputs(case, exportable.signature))

    assert leg.complaint == ""
    assert all(np.isfinite(array).all() for array in found.values())


class _Names(nn.Module):
    """The classifier of the tutorial on names, whose head ends in a log-softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.rnn(x)[0], x], 2)).log_softmax(2)


def test_a_log_softmax_that_saturates_is_judged_as_it_is_meant() -> None:
    torch.manual_seed(2)
    network = _Names()
    network.head.weight.data *= 100.0
    artefacts = build(network, ExportOptions(name="names"))
    signature = artefacts.exportable.signature
    inputs = make_inputs(Case(id="s", rows=2, steps=5, magnitude="saturated"), signature)

    found = ReferenceLeg(artefacts.model, signature).run(inputs)["y"]

    expected = network.eval()(torch.from_numpy(inputs[signature.sequence])).detach().numpy()
    assert expected.min() < -1000  # the softmax itself is 0 there
    np.testing.assert_allclose(found, expected, rtol=1e-5)
