"""What a stranger's module returns beside its answer: states are kept, the rest is counted."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import prepare
from cellgate.export.foreign_network import ForeignNetwork

I, H = 4, 6


class Pair(NamedTuple):
    logits: Tensor
    state: tuple[Tensor, Tensor]


class Net(nn.Module):
    """Returns what a test makes of its layer's output and state."""

    def __init__(self, returns: Callable[..., Any]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True)
        self.returns = returns

    def forward(self, x: Tensor) -> Any:
        return self.returns(*self.rnn(x))


class Loop(nn.Module):
    """A loop in forward that returns its last state, and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Any:
        h, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            seen.append(h)
        y = torch.stack(seen, 1)
        return y, h, y.mean(1)


@pytest.mark.parametrize(
    ("net", "count"),
    [
        pytest.param(Net(lambda y, _: y), 0, id="a-tensor"),
        pytest.param(Net(lambda y, state: (y, state)), 0, id="state"),
        pytest.param(Net(Pair), 0, id="named-tuple"),
        pytest.param(Net(lambda y, state: (y, state[0].squeeze(0))), 0, id="half-a-state"),
        pytest.param(Net(lambda y, state: (y, y.mean(1), state, {"max": y.amax(1)})), 2, id="two-more"),
        pytest.param(Net(lambda y, _: (y, y.argmax(-1))), 1, id="whole-numbers"),
        pytest.param(Loop(), 1, id="loop"),
    ],
)
def test_what_is_left_out_is_counted(net: nn.Module, count: int) -> None:
    network = prepare(net).network

    assert isinstance(network, ForeignNetwork)
    assert network.left_out == count
    assert network.returned == ()
