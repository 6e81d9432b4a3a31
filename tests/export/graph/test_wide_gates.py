"""Gates in float64: where the fused operator misses the control the widened loop holds it, and answers stay right."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.graph.wide_gates import widen_gates
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import build, verify_artefacts
from cellgate.export.proof.report import Report
from cellgate.export.proof.verify import VerifyOptions
from cellgate.model import LSTMCell, LSTMLayer, SequenceModel

pytestmark = pytest.mark.long

_U = 2.0**-24


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def body_of(model: bytes) -> onnx.GraphProto:
    """Return the body of the only Scan of a graph."""
    (scan,) = [node for node in onnx.load_from_string(model).graph.node if node.op_type == "Scan"]
    return next(attribute.g for attribute in scan.attribute if attribute.name == "body")


def verified(network: nn.Module, *, wide: bool) -> Report:
    options = ExportOptions(name="wide", float64_gates=wide, verify=VerifyOptions(drift_steps=50, threads=1))
    return verify_artefacts(build(network, options), options)


def missing(report: Report) -> list[str]:
    """Return the outputs that are more than twice as wrong as torch.nn, plus one ULP."""
    control = report.control
    return [name for name, bound in control.bound.items() if not control.ours[name] <= bound]


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("hidden_dim", "seed", "reads"),
    [
        pytest.param(1, 28, "every_step", id="H1"),
        pytest.param(5, 11, "mean", id="H5-mean"),
        pytest.param(8, 11, "every_step", id="H8"),
    ],
)
def test_lstms_that_miss_the_control_hold_it_in_float64(hidden_dim: int, seed: int, reads: str) -> None:
    torch.manual_seed(seed)
    network = SequenceModel(6, hidden_dim, 4, reads=reads)

    fused, wide = verified(network, wide=False), verified(network, wide=True)

    assert missing(fused)
    assert missing(wide) == []
    assert wide.control.passed
    assert (wide.verdict, wide.streamable) == ("equivalent", True)
    assert all(law.passed for law in wide.laws if law.applies)
    assert (wide.network.get("gates"), fused.network.get("gates")) == ("float64", None)


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        pytest.param({"cell": "GRUCell", "bidirectional": True}, "equivalent", id="GRU-both-ways"),
        pytest.param({"num_layers": 2, "reads": "last_step"}, "equivalent", id="two-layers"),
        pytest.param({"cell": "PeepholeLSTMCell"}, "equivalent", id="peepholes"),
        pytest.param({"gate_activation": "hard_sigmoid"}, "equivalent", id="hard-sigmoid"),
        pytest.param({"cell": "LayerNormLSTMCell"}, "sensitive", id="normalised"),
    ],
)
def test_other_cells_keep_their_verdict(options: dict[str, object], verdict: str) -> None:
    torch.manual_seed(3)

    report = verified(SequenceModel(3, 5, 2, **options), wide=True)  # type: ignore[arg-type]

    assert report.verdict == verdict
    assert report.control.complaint or missing(report) == []


def test_the_graph_keeps_names_and_free_axes_and_activates_in_float64() -> None:
    network = SequenceModel(3, 5, 2)

    plain, wide = prepare(network), prepare(network, float64_gates=True)
    body = body_of(export_onnx(wide))

    assert wide.signature == plain.signature
    assert [layer.operator for layer in plain.layers] == ["LSTM"]
    assert [layer.operator for layer in wide.layers] == ["Scan"]
    squashed = [node for node in body.node if node.op_type in {"Sigmoid", "Tanh"}]
    assert len(squashed) == 5
    assert all(name.endswith(".float64") for node in squashed for name in node.input)
    assert sum(node.op_type == "Cast" for node in body.node) == 4  # products, c; the new h and c


def test_what_is_fused_by_default_stays_fused() -> None:
    model = onnx.load_from_string(export_onnx(prepare(SequenceModel(3, 5, 2))))

    assert "LSTM" in {node.op_type for node in model.graph.node}
    assert not any(name.endswith(".float64") for node in model.graph.node for name in node.output)


class Squashing(nn.Module):
    """A cell that gives sigmoid and tanh of its input, beside each other."""

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.state_spec = (("h", 2 * input_dim),)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.cat([torch.sigmoid(x), torch.tanh(x)], 1) + 0.0 * state
        return new, new


def squashed_by_onnxruntime(x: np.ndarray, *, wide: bool) -> np.ndarray:
    """Return [T, 2]: sigmoid and tanh of x [T], as a loop under onnxruntime computes them."""
    exportable = prepare(LSTMLayer(Squashing, 1), float64_gates=wide)
    session = onnxruntime.InferenceSession(export_onnx(exportable), providers=["CPUExecutionProvider"])
    feeds = {spec.name: np.zeros((1, 1, 2), np.float32) for spec in exportable.signature.inputs}
    feeds |= {"x": x.reshape(1, -1, 1), "lengths": np.array([x.size], np.int32)}
    y: np.ndarray = session.run(["y"], feeds)[0]
    return y[0]


@pytest.mark.no_cover
def test_both_activations_are_right_to_the_last_bit_near_zero_too() -> None:
    x = np.linspace(-20.0, 20.0, 20_001, dtype=np.float32)
    exact = x.astype(np.float64)
    expected = np.stack([1.0 / (1.0 + np.exp(-exact)), np.tanh(exact)], 1)

    wide = np.abs(squashed_by_onnxruntime(x, wide=True) - expected)
    plain = np.abs(squashed_by_onnxruntime(x, wide=False) - expected)

    # Half a spacing of float32 is at most u of a value. The sigmoid of onnxruntime ends at -18, whence 1.6.
    scale = np.maximum(np.abs(expected), np.finfo(np.float32).tiny)
    assert (wide / scale).max() <= 2.0 * _U
    assert (plain[:, 0] / scale[:, 0]).max() > 1000.0 * _U  # what the option is for
    assert plain.max() < 8.0 * _U


def test_what_saturates_stays_finite() -> None:
    x = np.array([-np.inf, -1e30, -1e4, -0.0, 1e-40, 1e4, np.inf], dtype=np.float32)

    found = squashed_by_onnxruntime(x, wide=True)

    assert found[:, 0].tolist() == [0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert found[:, 1].tolist() == [-1.0, -1.0, -1.0, 0.0, float(np.float32(1e-40)), 1.0, 1.0]


def test_activations_outside_of_loops_stay_as_they_are() -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Sigmoid", ["x"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["B"])],
        [value("y", onnx.TensorProto.FLOAT, ["B"])],
    )
    before = graph.SerializeToString(deterministic=True)

    widen_gates(graph)

    assert graph.SerializeToString(deterministic=True) == before


class Stranger(nn.Module):
    """torch's own layer within a module, and a sigmoid after it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        result: Tensor = torch.sigmoid(self.head(y))
        return result


class OddOperators(nn.Module):
    """A cell with operators that onnxruntime has in float32 alone, between some that are widened."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.linear = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.state_spec = (("h", hidden_dim),)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        a = torch.sigmoid(self.linear(torch.cat([x, state], 1)))
        new = nn.functional.softplus(a) + torch.erf(2.0 * a) - nn.functional.elu(state)
        return new, new


@pytest.mark.covering("odd-operators")
@pytest.mark.parametrize(
    "network",
    [
        pytest.param(LSTMLayer(LSTMCell, 3, 4), id="layer"),
        pytest.param(Stranger(), id="foreign"),
        pytest.param(LSTMLayer(OddOperators, 3, 4), id="odd-operators"),
    ],
)
def test_networks_of_every_kind_are_widened_and_right(network: nn.Module) -> None:
    exportable = prepare(network, float64_gates=True)
    model = export_onnx(exportable)
    tensors = exportable.example(4, 9)
    has_lengths = exportable.signature.lengths is not None

    feeds = {spec.name: tensor.numpy() for spec, tensor in zip(exportable.signature.inputs, tensors, strict=True)}
    y, *_ = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
    with torch.no_grad():
        expected, _ = exportable.network(
            tensors[0], tensors[1] if has_lengths else None, list(tensors[1 + has_lengths :]) or None
        )

    squashed = [node for node in body_of(model).node if node.op_type in {"Sigmoid", "Tanh"}]
    assert squashed
    assert all(name.endswith(".float64") for node in squashed for name in node.input)
    assert float(np.abs(y - expected.numpy()).max()) < 1e-6


def test_a_subgraph_in_the_loop_reads_on_what_was_widened() -> None:
    make, value, F = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    branches = {
        f"{name}_branch": onnx.helper.make_graph([make(operator, ["a"], [name])], name, [], [value(name, F, None)])
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    body = onnx.helper.make_graph(
        [
            make("Sigmoid", ["x_t"], ["a"]),
            make("If", ["flag"], ["y_t"], **branches),
            make("Identity", ["s"], ["s_out"]),
        ],
        "body",
        [value("s", F, [1]), value("x_t", F, [2])],
        [value("s_out", F, [1]), value("y_t", F, [2])],
    )
    graph = onnx.helper.make_graph(
        [make("Scan", ["s0", "x"], ["final", "y"], body=body, num_scan_inputs=1)],
        "g",
        [value("s0", F, [1]), value("x", F, ["T", 2])],
        [value("final", F, [1]), value("y", F, ["T", 2])],
        [onnx.helper.make_tensor("flag", onnx.TensorProto.BOOL, [1], [True])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)

    widen_gates(model.graph)
    feeds = {"s0": np.zeros(1, np.float32), "x": np.array([[-17.0, 0.0]], np.float32)}
    y = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], feeds)[0]

    assert "float64" in str(model)
    assert y[0].tolist() == pytest.approx([-1.0 / (1.0 + np.exp(17.0)), -0.5], rel=1e-6)
