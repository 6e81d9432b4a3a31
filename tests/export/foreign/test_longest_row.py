"""Code that takes the longest of its lengths for the number of steps is right in batches that are padded further."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cellgate.export.errors import SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.longest_row import LongestFills

pytestmark = pytest.mark.long

I, H = 4, 6


class Masks(nn.Module):
    """A mean over the real steps, of as many as ``longest`` says."""

    def __init__(self, longest: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True)
        self.longest = longest

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        mask = torch.arange(self.longest(lengths))[None] < lengths[:, None]
        return (self.rnn(x)[0] * mask.unsqueeze(-1)).sum(1) / lengths[:, None]


class Cuts(Masks):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        steps = self.longest(lengths)
        y = self.rnn(x[:, :steps])[0]
        mask = torch.arange(steps).expand(len(lengths), steps) < lengths.unsqueeze(1)
        return torch.where(mask.unsqueeze(-1), y, -1e9).amax(1)


class Packs(Masks):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, counts = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        mask = torch.arange(self.longest(counts)).unsqueeze(0) < counts.unsqueeze(1)
        return y * mask.unsqueeze(-1)


def as_one_of_python(lengths: Tensor) -> Any:
    return max(lengths)


def as_whole_number(lengths: Tensor) -> int:
    return int(lengths.max())


WAYS = {
    "tensor": (Masks, lambda n: n.max()),
    "item": (Masks, lambda n: n.cpu().max().item()),
    "builtin": (Masks, as_one_of_python),
    "list": (Masks, lambda n: max(n.tolist())),
    "sorted": (Masks, lambda n: n.sort(descending=True)[0][0]),
    "int-cuts": (Cuts, as_whole_number),
    "tensor-cuts": (Cuts, torch.max),
    "behind-packing": (Packs, lambda n: n.amax().long()),
}


@pytest.mark.covering("builtin")
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_right_in_a_batch_that_is_padded_further_than_its_longest(exported: Any, way: str) -> None:
    kind, longest = WAYS[way]
    module = kind(longest).eval()

    graph = exported(module)

    assert graph.exportable.network.honours_lengths
    for lengths, steps in (([5, 2, 3], 9), ([4, 4], 4), ([1], 2), ([1, 30], 33)):
        x, counts = torch.randn(len(lengths), steps, I), np.array(lengths, np.int32)
        state = [np.zeros((1, len(lengths), H), np.float32)] * (len(graph.inputs) - 2)
        found = graph.run(x.numpy(), counts, *state)[0]
        for row, count in enumerate(lengths):
            with torch.no_grad():
                expected = module(x[row : row + 1, :count], torch.tensor([count]))[0].numpy()
            alone = found[row, :count] if found.ndim == 3 else found[row]
            assert float(np.abs(alone - expected).max()) < 2e-6


@pytest.mark.parametrize("longest", [lambda n: n[n.argmax()], lambda n: n.numpy().max()], ids=["indexed", "numpy"])
def test_longest_that_nobody_recognises_is_refused(longest: Callable[[Tensor], Any]) -> None:
    with pytest.raises(SignatureError, match=r"only where the longest row fills .*take x\.size\(1\) .* from lengths"):
        prepare(Masks(longest))


def test_remedy_of_that_refusal_works(exported: Any) -> None:
    class Remedied(Masks):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            mask = torch.arange(x.size(1))[None] < lengths[:, None]
            return (self.rnn(x)[0] * mask.unsqueeze(-1)).sum(1) / lengths[:, None]

    assert exported(Remedied(lambda n: n)).largest_difference() < 2e-6


def test_a_maximum_of_anything_else_is_what_it_was_and_names_come_back() -> None:
    lengths, other = torch.tensor([2, 3]), torch.tensor([2, 3])

    with LongestFills(Masks(max), lengths, 7):
        found = [lengths.max().item(), torch.max(lengths, other).tolist(), other.max().item(), max(2, 3), max([4, 1])]
        by_name = torch.sort(input=other, descending=True)[0][0].item()

    assert found == [7, [2, 3], 3, 3, 4]
    assert by_name == 3
    assert "max" not in globals()
