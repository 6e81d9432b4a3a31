"""Packing, stood in for during an export."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import rnn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from cellgate.export.errors import SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.graph.ragged import Ragged, packing_understood


class Packing(nn.Module):
    """Only its home matters: the stand-ins are put where its code looks names up."""


class Child(Packing):
    __module__ = "json"


def test_names_of_the_modules_code_give_a_ragged_while_entered_and_torchs_own_afterwards() -> None:
    before = pack_padded_sequence, pad_packed_sequence, rnn.pack_padded_sequence
    with packing_understood(Packing()):
        packed = pack_padded_sequence(torch.ones(2, 3, 1), torch.tensor([3, 1]), batch_first=True)
        packed_by_path = nn.utils.rnn.pack_padded_sequence(torch.ones(3, 2, 1), [3, 1])

    assert isinstance(packed, Ragged)
    assert isinstance(packed_by_path, Ragged)
    assert tuple(packed_by_path.padded.shape) == (2, 3, 1)
    assert before == (pack_padded_sequence, pad_packed_sequence, rnn.pack_padded_sequence)


def test_names_come_back_after_an_error() -> None:
    before = pack_padded_sequence
    with pytest.raises(KeyError), packing_understood(Packing()):
        raise KeyError

    assert before is pack_padded_sequence


def test_code_inherited_from_another_file_is_understood_too() -> None:
    assert "json" in sys.modules

    with packing_understood(Child()):
        assert isinstance(pack_padded_sequence(torch.ones(1, 1, 1), [1]), Ragged)


@pytest.mark.parametrize("batch_first", [True, False])
def test_padding_value_fills_what_is_not_real(batch_first: bool) -> None:
    with packing_understood(Packing()):
        packed = pack_padded_sequence(torch.ones(2, 3, 1), torch.tensor([1, 3]), batch_first=True)
        y, lengths = pad_packed_sequence(packed, batch_first=batch_first, padding_value=-7.0, total_length=3)

    assert lengths.tolist() == [1, 3]
    assert (y if batch_first else y.transpose(0, 1)).squeeze(2).tolist() == [[1, -7, -7], [1, 1, 1]]


class Mapped(nn.Module):
    """Maps what is packed, and packs it again, in one of the ways that people have."""

    def __init__(self, again: Callable[[PackedSequence, Tensor], PackedSequence]) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 3)
        self.again = again

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        assert isinstance(packed, PackedSequence)
        y = self.rnn(packed)[0]
        return pad_packed_sequence(self.again(y, self.head(y.data)), batch_first=True)[0]


def made_anew(packed: PackedSequence, data: Tensor) -> PackedSequence:
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)


def replaced(packed: PackedSequence, data: Tensor) -> PackedSequence:
    return packed._replace(data=data)


@pytest.mark.no_cover
@pytest.mark.parametrize("again", [made_anew, replaced])
def test_what_is_packed_may_be_mapped_and_packed_again(exported: Any, again: Any) -> None:
    module = Mapped(again).eval()

    graph = exported(module)

    lengths = torch.tensor([9, 4, 1])
    x = torch.randn(3, 9, 4)
    found = graph.run(x.numpy(), lengths.numpy().astype("int32"), torch.zeros(1, 3, 6).numpy())[0]
    with torch.no_grad():
        expected = module(x, lengths).numpy()
    assert abs(found - expected * (torch.arange(9) < lengths.unsqueeze(1)).unsqueeze(-1).numpy()).max() < 2e-6


class Normed(nn.Module):
    """Norms what is packed before the layer and behind it, as over any batch of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.behind = nn.BatchNorm1d(4), nn.BatchNorm1d(6)
        self.rnn = nn.LSTM(4, 6, batch_first=True)
        for norm in (self.before, self.behind):
            nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, *sizes = packed
        y, _ = self.rnn(PackedSequence(self.before(packed.data), *sizes))
        return pad_packed_sequence(y._replace(data=self.behind(y.data)), batch_first=True)[0]


def test_batch_norm_of_what_is_packed_is_that_of_each_step_whole_and_in_chunks(exported: Any) -> None:
    module = Normed().eval()

    graph = exported(module)

    for lengths in ([9, 4, 1], [1], [7, 7]):
        x, counts = torch.randn(len(lengths), max(lengths), 4), torch.tensor(lengths)
        zeros = [torch.zeros(1, len(lengths), 6).numpy()] * 2
        found = graph.run(x.numpy(), counts.numpy().astype("int32"), *zeros)[0]
        with torch.no_grad():
            expected = module(x, counts).numpy()
        real = (torch.arange(max(lengths)) < counts.unsqueeze(1)).unsqueeze(-1).numpy()
        assert abs(found - expected * real).max() < 2e-6
    full = torch.full((2,), 7, dtype=torch.int32).numpy()
    first, *state = graph.run(x[:, :3].numpy(), full * 0 + 3, *zeros)
    last, *_ = graph.run(x[:, 3:].numpy(), full * 0 + 4, *state)
    assert abs(torch.cat([torch.from_numpy(first), torch.from_numpy(last)], 1).numpy() - expected).max() < 2e-6


def test_mean_over_what_is_packed_is_refused_for_it_mixes_rows() -> None:
    with pytest.raises(SignatureError, match="lets a row change the output of another"):
        prepare(Mapped(lambda packed, data: packed._replace(data=data - data.mean(0))))


class TellsPaddingByItsToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(29, 4, padding_idx=0), nn.LSTM(4, 6, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        counts = (tokens != 0).sum(1).cpu()
        packed = pack_padded_sequence(self.words(tokens), counts, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1][0][-1]


def test_row_of_which_nothing_is_counted_has_one_step_in_every_form(exported: Any) -> None:
    module = TellsPaddingByItsToken().eval()

    graph = exported(module)

    tokens, state = torch.tensor([[0, 0, 0], [5, 7, 0]]), torch.randn(1, 2, 6)
    arrays = [tensor.numpy() for tensor in (tokens, state, state)]
    assert graph.inputs == ["tokens", "h0", "c0"]
    for found, expected in zip(graph.run(*arrays), graph.eager(tokens, state, state), strict=True):
        assert abs(found - expected).max() < 2e-6
    zeros = [0 * array for array in arrays[1:]]
    with torch.no_grad():
        assert abs(graph.run(tokens.numpy(), *zeros)[0][1] - module(tokens[1:]).numpy()[0]).max() < 2e-6
