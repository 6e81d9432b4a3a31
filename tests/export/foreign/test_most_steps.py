"""A module whose positions end: it is exported for as many steps as it has, and no more."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import FrozenAxisError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.network import ForeignNetwork
from cellgate.export.torchscript import export_torchscript

from .ragged_rows import assert_right_for_ragged_rows

I, H, O = 3, 6, 4


class Positions(nn.Module):
    """A table that is added to the steps, as `table[:, :T]`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(1, most, I))
        self.rnn, self.head = nn.LSTM(I, H, batch_first=True), nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(x + self.table[:, : x.size(1)])[0])
        return y


class Embedded(Positions):
    """The same as an `nn.Embedding` of the places, read in both directions."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.places = nn.Embedding(most, I)
        self.rnn, self.head = nn.GRU(I, H, batch_first=True, bidirectional=True), nn.Linear(2 * H, O)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rnn(x + self.places(torch.arange(x.size(1))))[0])
        return y


class Masked(Positions):
    """Attention to the steps before, by a mask that is kept for the longest sequence."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.register_buffer("mask", torch.triu(torch.full((most, most), float("-inf")), 1))
        self.attention = nn.MultiheadAttention(H, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        T = x.size(1)
        seen, _ = self.attention(y, y, y, attn_mask=self.mask[:T, :T], need_weights=False)
        z: Tensor = self.head(y + seen)
        return z


class Refuses(Positions):
    """A limit that stands in the code."""

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) > 3000:
            raise ValueError("too long")
        y: Tensor = self.head(self.rnn(x)[0])
        return y


class Looped(Positions):
    """A loop of the module's own over what has a place."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.table[:, : x.size(1)]
        h, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            seen.append(self.head(h))
        return torch.stack(seen, 1)


@pytest.mark.parametrize(
    ("module", "most", "said"),
    [
        pytest.param(Positions(100), 100, "size of tensor a (101) must match", id="sliced"),
        pytest.param(Positions(5000), 5000, "size of tensor a (5001) must match", id="long"),
        pytest.param(Embedded(512), 512, "index out of range", id="embedded"),
        pytest.param(Masked(64), 64, "attn_mask", id="mask"),
        pytest.param(Refuses(9), 3000, "too long", id="by-the-code"),
    ],
)
def test_graph_is_right_up_to_the_last_position(exported: Any, module: Positions, most: int, said: str) -> None:
    graph = exported(module)
    network, signature = graph.exportable.network, graph.exportable.signature

    assert (signature.most_steps, signature.state) == (most, ())
    assert said in network.said_to_more
    assert graph.exportable.description["most_steps"] == most
    for rows, steps in ((1, 1), (2, 2), (3, 17), (1, most - 1), (2, most)):
        x = torch.randn(rows, steps, I)
        feeds = (x.numpy(), np.full(rows, steps, np.int32)) if signature.lengths else (x.numpy(),)
        with torch.no_grad():
            assert np.abs(graph.run(*feeds)[0] - module.eval()(x).numpy()).max() < 1e-5


def test_positions_that_end_before_the_longest_probes_leave_lengths_taken(exported: Any) -> None:
    assert exported(Positions(50)).exportable.signature.lengths == "lengths"


class Strided(Positions):
    """A front that leaves a third of the steps, each with a place; of three steps a capture would be a special case."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.front = nn.Conv1d(I, I, 3, stride=3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.front(x.transpose(1, 2)).transpose(1, 2)
        y: Tensor = self.head(self.rnn(z + self.table[:, : z.size(1)])[0])
        return y


def test_fewest_and_most_are_found_behind_a_front(exported: Any) -> None:
    module = Strided(20)
    graph = exported(module)
    signature = graph.exportable.signature

    assert (signature.least_steps, signature.most_steps, signature.outputs[0].shape[1]) == (3, 62, "T//3")
    for steps in (3, 4, 6, 40, 62):
        x = torch.randn(2, steps, I)
        with torch.no_grad():
            assert np.abs(graph.run(x.numpy())[0] - module.eval()(x).numpy()).max() < 1e-5


def test_rows_of_unequal_length_are_right(exported: Any) -> None:
    module = Positions(40).eval()

    assert_right_for_ragged_rows(exported(module), lambda row: module(row[None])[0])


def test_loop_whose_positions_end_is_exported(exported: Any) -> None:
    graph = exported(Looped(70))

    assert graph.exportable.signature.most_steps == 70
    assert graph.operators["GRU"] == 1


def test_network_without_an_end_has_none() -> None:
    assert prepare(nn.LSTM(I, H, batch_first=True)).signature.most_steps is None


def test_torchscript_is_written_as_of_any_module() -> None:
    assert export_torchscript(prepare(Positions(50))).content


def test_an_end_that_leaves_few_numbers_of_steps_is_refused() -> None:
    assert isinstance(prepare(Positions(25)).network, ForeignNetwork)
    with pytest.raises(FrozenAxisError, match="allows the time at most 24 at test_most_steps"):
        prepare(Positions(24))
