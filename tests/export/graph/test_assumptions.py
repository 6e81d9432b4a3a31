"""What a capture assumes of B and T: granted where it never fails, or where the graph is right all the same."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellgate.export.errors import FrozenAxisError
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx

pytestmark = pytest.mark.skipif(torch.__version__ < "2.13", reason="torch 2.10 says less of what it assumes")

I, H, O = 3, 6, 4


class Segments(nn.Module):
    """An LSTM over pairs of segments of four steps: padded to whole segments, and the last left out where it is odd."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(8 * I, H, batch_first=True), nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        rows, steps, width = x.shape
        segments = functional.pad(x, (0, 0, 0, -steps % 4)).reshape(rows, -1, 4 * width)
        pairs = segments.size(1) // 2
        return self.head(self.rnn(segments[:, : 2 * pairs].reshape(rows, pairs, 8 * width))[0])  # type: ignore[no-any-return]


class Images(nn.Module):
    """Two-dimensional convolutions over [B, 1, F, T], as networks for speech have them."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 3, (2, 1), 1))
        self.rnn, self.head = nn.LSTM(4, H, batch_first=True, bidirectional=True), nn.Linear(2 * H, O)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.front(x.transpose(1, 2).unsqueeze(1))
        rows, channels, heights, steps = seen.shape
        seen = seen.view(rows, channels * heights, steps).transpose(1, 2).contiguous()
        return self.head(self.rnn(seen)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "width", "axis"),
    [
        pytest.param(Segments(), I, "(T+3)//8", id="segments"),
        pytest.param(Images(), 8, "(T+1)//2", id="images"),
    ],
)
def test_graph_is_right_where_what_was_assumed_holds_and_where_it_does_not(
    exported: Any, module: nn.Module, width: int, axis: str
) -> None:
    graph = exported(module, input_dim=width)
    signature = graph.exportable.signature

    assert signature.outputs[0].shape == ("B", axis, O)
    for steps in range(signature.least_steps, signature.least_steps + 20):
        x = graph.exportable.example(3, steps)[0]
        with torch.no_grad():
            expected = module.eval()(x).numpy()
        for rows in (1, 3):
            (found,) = graph.run(x[:rows].numpy())
            assert found.shape == expected[:rows].shape
            assert float(np.abs(found - expected[:rows]).max()) < 2e-6


class Halved(nn.Module):
    """Leaves out the last step of an odd number of them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(2 * I, H, batch_first=True), nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) % 2 != 0:
            x = x[:, :-1]
        return self.head(self.rnn(x.reshape(x.size(0), x.size(1) // 2, 2 * I))[0])  # type: ignore[no-any-return]


class OtherForOne(nn.Module):
    """Does something else for 7 * 31 steps, a number that stands nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head, self.sizes = nn.LSTM(I, H, batch_first=True), nn.Linear(H, O), (7, 31)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.rnn(x)[0])
        return -y if x.size(1) == self.sizes[0] * self.sizes[1] else y


class OtherForElevenRows(Segments):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return -y if x.size(0) == 11 else y


@pytest.mark.covering("remainder")
@pytest.mark.parametrize(
    ("module", "width", "complaint"),
    [
        pytest.param(
            Halved(),
            I,
            r"at test_assumptions.py:\d+ \(forward\), by a remainder.*; expected both free. Cut or pad all",
            id="remainder",
        ),
        pytest.param(
            OtherForOne(), I, "the size != 217, and its graph would be wrong for 1 row of 217 steps;", id="steps"
        ),
        pytest.param(OtherForElevenRows(), I, "and its graph would be wrong for 11 rows of 5 steps;", id="rows"),
    ],
)
def test_assumption_that_matters_is_refused(module: nn.Module, width: int, complaint: str) -> None:
    with pytest.raises(FrozenAxisError, match=complaint):
        export_onnx(prepare(module, input_dim=width))
