"""Code that computes in half precision is refused with its place; where it does so in training alone it is taken."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.bundle.manifest import SessionOptions
from cellgate.export.errors import ExportError, SignatureError, SourceError
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.proof.graph_legs import RuntimeLeg
from cellgate.model import SequenceModel

pytestmark = pytest.mark.no_cover

I, H = 4, 6


class Net(nn.Module):
    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.rnn, self.cell, self.head = nn.LSTM(I, H, batch_first=True), nn.GRUCell(I, H), nn.Linear(H, 2)
        self.call = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)  # type: ignore[no-any-return]


def whole(net: Net, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net.head(net.rnn(x)[0]).float()  # type: ignore[no-any-return]


@torch.autocast("cpu")
def decorated(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x)[0])  # type: ignore[no-any-return]


def in_a_loop(net: Net, x: Tensor) -> Tensor:
    h, seen = torch.zeros(x.size(0), H), []
    for t in range(x.size(1)):
        with torch.autocast("cpu", dtype=torch.float16):
            h = net.cell(x[:, t], h).float()
        seen.append(h)
    return torch.stack(seen, 1)


def in_training_alone(net: Net, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=net.training):
        return net.head(net.rnn(x)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("forward", "found"),
    [
        pytest.param(whole, r"bfloat16 under torch\.autocast at test_half_precision\.py:\d+ \(whole\)", id="whole"),
        pytest.param(decorated, r"bfloat16 under torch\.autocast at test_half_precision\.py:\d+", id="decorated"),
        pytest.param(in_a_loop, r"float16 under torch\.autocast at test_half_precision\.py:\d+", id="in-a-loop"),
    ],
)
def test_autocast_is_refused_with_its_place(forward: Callable[..., Any], found: str) -> None:
    enter = torch.autocast.__enter__

    with pytest.raises(SourceError, match=f"{found}.*take autocast out of its code"):
        prepare(Net(forward))
    assert torch.autocast.__enter__ is enter


def test_autocast_that_is_not_enabled_where_nothing_trains_is_taken(exported: Any) -> None:
    assert exported(Net(in_training_alone)).largest_difference() < 2e-6


def in_a_product(net: Net, x: Tensor) -> Tensor:
    return (net.rnn(x)[0].half() @ net.head.weight.t().half()).float()  # type: ignore[no-any-return]


def element_by_element(net: Net, x: Tensor) -> Tensor:
    return (net.rnn(x)[0].bfloat16() * 0.3).float()  # type: ignore[no-any-return]


def in_a_step(net: Net, x: Tensor) -> Tensor:
    h, seen = torch.zeros(x.size(0), H), []
    for t in range(x.size(1)):
        h = (net.cell(x[:, t], h).half() + 0.1).float()
        seen.append(h)
    return torch.stack(seen, 1)


def only_rounds(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x.half().float())[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("forward", "found"),
    [
        pytest.param(in_a_product, r"float16 at test_half_precision\.py:\d+ \(in_a_product\)", id="product"),
        pytest.param(element_by_element, r"bfloat16 at test_half_precision\.py:\d+ \(element_by", id="elements"),
        pytest.param(in_a_step, r"float16 at test_half_precision\.py:\d+ \(in_a_step\)", id="step"),
    ],
)
def test_arithmetic_in_half_precision_is_refused_with_its_place(forward: Callable[..., Any], found: str) -> None:
    with pytest.raises(SignatureError, match=rf"^Net\.forward computes in {found}.*let it stay in float32"):
        prepare(Net(forward))


def test_cell_that_computes_in_half_precision_is_refused_with_its_place() -> None:
    class Cell(nn.Module):
        def __init__(self, input_dim: int, hidden_dim: int) -> None:
            super().__init__()
            self.state_spec = (("h", hidden_dim),)
            self.joint = nn.Linear(input_dim + hidden_dim, hidden_dim)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = (torch.tanh(self.joint(torch.cat([x, h], 1))).half() * 0.5).float()
            return h, h

    with pytest.raises(SourceError, match=r"computes in float16 at test_half_precision\.py:\d+ \(forward\)"):
        prepare(SequenceModel(I, H, 2, cell=Cell))


def test_values_that_are_only_rounded_are_taken(exported: Any) -> None:
    assert exported(Net(only_rounds)).largest_difference() < 2e-6


def test_type_that_the_runtime_cannot_compute_in_is_refused_in_one_sentence() -> None:
    def rounded(net: Net, x: Tensor) -> Tensor:
        return net.head(net.rnn(x)[0].bfloat16().relu().float())  # type: ignore[no-any-return]

    exportable = prepare(Net(rounded))

    with pytest.raises(ExportError, match=r"cannot open the graph .*Max.*stay in float32") as caught:
        RuntimeLeg(export_onnx(exportable), exportable.signature, SessionOptions())
    assert "\n" not in str(caught.value)
