"""Loops over numbers [B, T], which have no axis for features: x of the bundle is [B, T, 1] as ever."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import UnsupportedLayerError
from cellgate.export.exportable import prepare

from .looped_modules import H, scaled

pytestmark = pytest.mark.long


class SineWaves(nn.Module):
    """As PyTorch's own example of a prediction writes it, but for the dtype of its zeros."""

    dtype: torch.dtype | None = None

    def __init__(self) -> None:
        super().__init__()
        self.lstm1, self.lstm2, self.linear = nn.LSTMCell(1, H), nn.LSTMCell(H, H), nn.Linear(H, 1)

    def forward(self, input: Tensor, future: int = 0) -> Tensor:  # noqa: A002 - the example's name
        outputs = []
        h_t, c_t, h_t2, c_t2 = (torch.zeros(input.size(0), H, dtype=self.dtype) for _ in range(4))
        for input_t in input.split(1, dim=1):
            h_t, c_t = self.lstm1(input_t, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        for _ in range(future):
            h_t, c_t = self.lstm1(output, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        return torch.cat(outputs, dim=1)


class WrittenOut(nn.Module):
    """Matrices; the layout is not seen in their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h, self.offset = scaled(1, 2 * H), scaled(H, 2 * H), scaled(2 * H)

    def forward(self, x: Tensor) -> Tensor:
        h, said = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            keep, new = (x[:, t].unsqueeze(1) @ self.from_x + h @ self.from_h + self.offset).chunk(2, 1)
            h = keep.sigmoid() * h + (1 - keep.sigmoid()) * new.tanh()
            said.append(h)
        return torch.stack(said, 1)


class LastOfLinears(nn.Module):
    """Runs with [B, T, 1] too, where each row meets every other: that cannot be meant."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(1, H), nn.Linear(H, H)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), H)
        for t in range(x.size(1)):
            h = torch.tanh(self.from_x(x[:, t : t + 1]) + self.from_h(h))
        return h


class TimeFirst(nn.Module):
    """[T, B]."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(1, H), nn.Linear(H, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, said = torch.zeros(x.size(1), H), []
        for numbers in x:
            h = self.cell(numbers.unsqueeze(-1), h)
            said.append(self.head(h).squeeze(-1))
        return torch.stack(said)


class Both(LastOfLinears):
    """Takes [B, T, 1], where each step counts itself, and [B, T]: which one is meant, is not guessed."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), H)
        for t in range(x.size(1)):
            h = torch.tanh(self.from_x(x[:, t].reshape(-1, 1)) + self.from_h(h)) * ((t + 1) ** 2 if x.dim() == 3 else 1)
        return h


@pytest.mark.covering("runs-with-features-too")
@pytest.mark.parametrize(
    ("make", "operators"),
    [
        pytest.param(SineWaves, ["LSTM", "LSTM"], id="example-of-pytorch"),
        pytest.param(WrittenOut, ["Scan"], id="matrices"),
        pytest.param(LastOfLinears, ["Scan"], id="runs-with-features-too"),
        pytest.param(TimeFirst, ["GRU"], id="time-first"),
    ],
)
def test_loop_over_numbers_takes_one_feature(
    exported: Any, make: Callable[[], nn.Module], operators: list[str]
) -> None:
    module = make().eval()

    graph = exported(module)

    assert [layer.operator for layer in graph.exportable.layers] == operators
    assert graph.exportable.signature.inputs[0].shape == ("B", "T", 1)
    x, lengths, *state = graph.exportable.example(4, 19)
    lengths = torch.tensor([19, 8, 1, 2], dtype=torch.int32)
    y, *_ = graph.run(x.numpy(), lengths.numpy(), *(np.zeros_like(tensor.numpy()) for tensor in state))
    for row, count in enumerate(lengths.tolist()):
        alone = x[row : row + 1, :count, 0]
        with torch.no_grad():
            expected = module(alone.T if make is TimeFirst else alone).numpy()
        found = y[row, :count] if y.ndim == 3 else y[row]
        assert float(np.abs(expected.ravel() - found.ravel()).max()) < 2e-6


def test_module_that_runs_with_features_is_not_taken_for_one_of_numbers() -> None:
    with pytest.raises(UnsupportedLayerError, match="computes with the number of the step"):
        prepare(Both())


def test_zeros_of_another_precision_are_refused_and_the_remedy_works() -> None:
    class InDoubles(SineWaves):
        dtype = torch.double

    assert InDoubles().double()(torch.zeros(2, 3, dtype=torch.double)).shape == (2, 3)
    with pytest.raises(
        UnsupportedLayerError, match=r"float64 alone \(.* Double and Float\); let it make .* dtype of x"
    ):
        prepare(InDoubles())

    InDoubles.dtype = torch.float32
    assert prepare(InDoubles()).signature.inputs[0].shape == ("B", "T", 1)


def test_numbers_are_not_tried_where_another_width_is_told() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"say another --input-dim, and 1 if it takes numbers \[B, T\]"):
        prepare(SineWaves(), input_dim=3)

    assert prepare(SineWaves(), input_dim=1).signature.inputs[0].shape == ("B", "T", 1)
