"""A sigmoid whose last digits are divided by, or a root of which is taken: the graph is as exact as PyTorch is."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from cellgate.export.exportable import prepare
from cellgate.export.graph.graph_view import attribute_of
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import build, verify_artefacts
from cellgate.export.proof.verify import VerifyOptions

I, H, ROWS, STEPS = 3, 5, 4, 20


class Looped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(I, H), nn.Linear(I, H), nn.Linear(I + H, H)

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(0), H)
        outputs = []
        for t in range(x.size(1)):
            output, h = self.step(x[:, t], h)
            outputs.append(output)
        return torch.stack(outputs, 1)


class Quotient(Looped):
    """minLSTM's gates, with what keeps their sum from zero."""

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        f, i = torch.sigmoid(self.a(x)), torch.sigmoid(self.b(x))
        h = (f * h + i * torch.tanh(x.sum(1, keepdim=True))) / (f + i + 1e-6)
        return h, h


class Root(Looped):
    """An RG-LRU's: the decay is the exponential of a gate, and what comes in has the root of what is left of it."""

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        log_decay = -8.0 * F.softplus(self.b.bias) * torch.sigmoid(self.a(x))
        h = torch.exp(log_decay) * h + torch.sqrt(-torch.expm1(2.0 * log_decay)) * self.b(x)
        return h, h


class Later(Looped):
    """One gate in the body, whose division comes a step after it, and one that is hoisted out of the body."""

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        gate = torch.sigmoid(self.c(torch.cat([x, h], 1)) - 8.0)
        return torch.tanh(self.b(x)) / (h + 1e-7) / (torch.sigmoid(self.a(x)) + 1e-7), gate


class Plain(Looped):
    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.sigmoid(self.c(torch.cat([x, h], 1)))
        h = z * h + (1 - z) * torch.tanh(self.a(x))
        return h, h


def graph_of(kind: type[Looped]) -> bytes:
    return export_onnx(prepare(kind().eval(), input_dim=I))


def operators(model: bytes) -> Counter[str]:
    graph = onnx.load_from_string(model).graph
    bodies = [attribute_of(node, "body").node for node in graph.node if node.op_type == "Scan"]
    return Counter(node.op_type for nodes in (graph.node, *bodies) for node in nodes)


@pytest.mark.covering("Later")
@pytest.mark.parametrize("kind", [Quotient, Root, Later])
def test_graph_is_about_as_wrong_as_pytorch(kind: type[Looped]) -> None:
    model = graph_of(kind)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    network, exact = kind().eval(), kind().eval().double()

    assert "Sigmoid" not in operators(model) or kind is Root
    for scale in (1.0, 10.0, 40.0):
        x = torch.randn(ROWS, STEPS, I, generator=torch.Generator().manual_seed(1)) * scale
        feeds = {"x": x.numpy(), "lengths": np.full(ROWS, STEPS, np.int32)}
        for state in session.get_inputs()[2:]:
            feeds[state.name] = np.zeros([ROWS if isinstance(n, str) else n for n in state.shape], np.float32)
        (found,) = session.run(["y"], feeds)
        with torch.no_grad():
            truth = exact(x.double()).numpy()
            theirs = np.abs(network(x).numpy() - truth).max()
        assert np.abs(found - truth).max() <= 2.0 * theirs + 4.0 * np.spacing(np.float32(np.abs(truth).max()))


@pytest.mark.no_cover
def test_sigmoid_of_an_ordinary_gate_stays_one_node() -> None:
    found = operators(graph_of(Plain))

    assert found["Sigmoid"] == 1
    assert found["Exp"] == 0


@pytest.mark.no_cover
@pytest.mark.slow
def test_quotient_of_gates_is_verified() -> None:
    options = ExportOptions(
        name="quotient", input_dim=I, float64_gates=True, verify=VerifyOptions(drift_steps=50, threads=1)
    )

    assert verify_artefacts(build(Quotient().eval(), options), options).verdict == "equivalent"
