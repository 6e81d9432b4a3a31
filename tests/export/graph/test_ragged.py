"""Packing, stood in for during an export."""

import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import rnn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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
    assert tuple(packed_by_path.data.shape) == (2, 3, 1)
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
