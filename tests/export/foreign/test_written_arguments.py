"""A forward that writes into what it is given finds it as it was at the next call, and so does whoever calls it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import prepare

from .ragged_rows import assert_right_for_ragged_rows

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

I, H = 4, 6


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True)


class IntoLengths(Writes):
    """The index of the last step, made in the place of the lengths."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        lengths -= 1
        return y[torch.arange(len(y)), lengths]


class IntoSequence(Writes):
    """A mean that is taken off the sequence itself."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x -= 0.5
        return self.rnn(x)[0]  # type: ignore[no-any-return]


class IntoState(Writes):
    """A state that is scaled where it is."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(1, x.size(0), H) if h is None else h
        y, final = self.rnn(x, h)
        h *= 0.0
        return y, final


@pytest.mark.parametrize("make", [IntoLengths, IntoSequence])
def test_rows_of_unequal_length_are_right_where_forward_writes_into_its_arguments(exported: Any, make: Any) -> None:
    module = make().eval()

    def alone(row: Tensor) -> Tensor:
        return module(row.clone().unsqueeze(0), torch.tensor([len(row)]))[0]  # type: ignore[no-any-return]

    graph = exported(module)

    assert graph.exportable.signature.lengths == "lengths"
    assert_right_for_ragged_rows(graph, alone)


def test_caller_keeps_what_it_gave(exported: Any) -> None:
    network = prepare(IntoState().eval()).network
    x, lengths, state = torch.randn(2, 5, I), torch.tensor([5, 3]), [torch.randn(1, 2, H)]
    given = [x.clone(), lengths.clone(), state[0].clone()]

    network(x, lengths, state)

    assert all(torch.equal(one, other) for one, other in zip((x, lengths, *state), given, strict=True))
