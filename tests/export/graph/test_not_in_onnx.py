"""What torch computes over the steps and ONNX has no operator for is refused with its place and a loop that works."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import ExportError

pytestmark = pytest.mark.long

I, H = 4, 6


class Net(nn.Module):
    def __init__(self, over_time: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rnn, self.over_time = nn.LSTM(I, H, batch_first=True), over_time

    def forward(self, x: Tensor) -> Tensor:
        return self.over_time(self.rnn(x)[0].sigmoid())


@pytest.mark.covering("mode")
@pytest.mark.parametrize(
    ("over_time", "sentence"),
    [
        (lambda y: y.cummax(1).values, r"torch\.cummax at .*, m = torch\.maximum\(m, y\[:, t\]\), from torch\.full"),
        (lambda y: y.cummin(1).values, r"torch\.cummin at .*, m = torch\.minimum\(m, y\[:, t\]\), from torch\.full"),
        (lambda y: y.cumprod(1), r"torch\.cumprod at .*, p = p \* y\[:, t\], from torch\.ones\(B, H\)"),
        (lambda y: y.round().mode(1).values, r"torch\.mode at .*; write it in terms of others"),
    ],
    ids=["cummax", "cummin", "cumprod", "mode"],
)
def test_function_without_an_operator_is_refused_with_its_place(
    exported: Any, over_time: Callable[[Tensor], Tensor], sentence: str
) -> None:
    with pytest.raises(ExportError, match=sentence) as caught:
        exported(Net(over_time))
    assert "at test_not_in_onnx.py:" in str(caught.value)


def carried(start: float, step: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def over_time(y: Tensor) -> Tensor:
        m, seen = torch.full((y.size(0), H), start), []
        for t in range(y.size(1)):
            m = step(m, y[:, t])
            seen.append(m)
        return torch.stack(seen, 1)

    return over_time


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("start", "step", "function"),
    [
        (-1e9, torch.maximum, lambda y: y.cummax(1).values),
        (1e9, torch.minimum, lambda y: y.cummin(1).values),
        (1.0, torch.mul, lambda y: y.cumprod(1)),
    ],
    ids=["cummax", "cummin", "cumprod"],
)
def test_loop_in_its_place_gives_what_torch_gives(exported: Any, start: float, step: Any, function: Any) -> None:
    module = Net(carried(start, step)).eval()

    graph = exported(module)

    for rows, steps in ((1, 1), (3, 11)):
        x = torch.randn(rows, steps, I)
        with torch.no_grad():
            expected = function(module.rnn(x)[0].sigmoid()).numpy()
        rest = [torch.full((rows,), steps, dtype=torch.int32).numpy()] * (len(graph.inputs) - 1)
        assert graph.inputs == ["x", "lengths"]
        assert abs(graph.run(x.numpy(), *rest)[0] - expected).max() < 2e-6


class Dilated(nn.Module):
    """Every fourth step, the four sequences side by side as rows, as a dilated network has them."""

    def __init__(self, parts: Callable[[Tensor, int], Any]) -> None:
        super().__init__()
        self.rnn, self.parts = nn.GRU(I, H), parts

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        padded = nn.functional.pad(x, (0, 0, 0, -(-T // 4) * 4 - T)).transpose(0, 1)
        y, _ = self.rnn(torch.cat([padded[k::4] for k in range(4)], 1))
        return torch.stack(self.parts(y, B), 1).flatten(0, 1)[:T].transpose(0, 1)


def test_split_of_a_free_axis_is_refused_with_its_place_and_slices_work(exported: Any) -> None:
    with pytest.raises(ExportError, match=r"splits an axis of free size at test_not_in_onnx.py:\d+ .*take slices"):
        exported(Dilated(lambda y, _: y.chunk(4, 1)))
    graph = exported(Dilated(lambda y, B: [y[:, k * B : (k + 1) * B] for k in range(4)]))

    assert graph.largest_difference() < 2e-6
