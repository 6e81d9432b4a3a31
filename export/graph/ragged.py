"""Packed sequences for the time of an export: PyTorch's own cannot be captured, so a stand-in carries the same facts.

A module that packs knows each row's length and says so to its recurrent layer; that is just what the graph needs. While
``packing_understood`` is entered, ``pack_padded_sequence`` and ``pad_packed_sequence`` give and take a Ragged instead
of a PackedSequence, wherever the module's own code looks them up; afterwards everything is as before. Code that maps
``packed.data``, all steps on one axis, and packs it again finds what it needs for that in a Ragged.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from .names_exchanged import homes_of, names_exchanged


class Ragged:
    """A padded batch with its lengths, made and read as a PackedSequence; rows keep their order.

    Args:
        data: [B*T, ...], every step of one row after the other; those behind a row's length are padding.
        batch_sizes: int64 [B], the lengths, for code that hands them on as it got them.

    Attributes:
        padded: data [B, T, ...].
        batch_sizes: as given.
        lengths: the same.
        sorted_indices: None, as torch has it where rows keep their order.
        unsorted_indices: likewise.
    """

    def __init__(
        self,
        data: Tensor,
        batch_sizes: Tensor,
        sorted_indices: Any = None,  # noqa: ARG002 - as of a PackedSequence
        unsorted_indices: Any = None,  # noqa: ARG002
        *,
        padded: Tensor | None = None,
    ) -> None:
        self.padded = data.reshape(batch_sizes.size(0), -1, *data.shape[1:]) if padded is None else padded
        self.batch_sizes = self.lengths = batch_sizes
        self.sorted_indices = self.unsorted_indices = None

    @classmethod
    def of(cls, padded: Tensor, lengths: Tensor) -> "Ragged":
        """Return that of padded [B, T, ...] and lengths [B]."""
        return cls(padded, lengths, padded=padded)

    @property
    def data(self) -> Tensor:
        """Data [B*T, ...]."""
        return self.padded.flatten(0, 1)

    def __iter__(self) -> Iterator[Any]:
        """Yield what a PackedSequence, a named tuple, holds."""
        return iter((self.data, self.batch_sizes, self.sorted_indices, self.unsorted_indices))

    def _replace(self, *, data: Tensor) -> "Ragged":
        """Return the same with other data, as a named tuple does."""
        return Ragged(data, self.lengths)


def _pack(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Ragged:  # noqa: A002, ARG001
    """Stand in for torch.nn.utils.rnn.pack_padded_sequence; rows keep their order, so none need be sorted.

    Torch's own takes no row of nothing, which a module may count that tells padding by a token; here it has one step.
    """
    return Ragged.of(input if batch_first else input.transpose(0, 1), torch.as_tensor(lengths).clamp(min=1))


def _pad(
    sequence: Ragged, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Stand in for torch.nn.utils.rnn.pad_packed_sequence; the padded length is that of the input."""
    del total_length
    y = sequence.padded
    if padding_value != 0.0:
        steps = torch.arange(y.size(1), device=y.device).unsqueeze(0)
        y = y.masked_fill((steps >= sequence.lengths.unsqueeze(1)).unsqueeze(2), padding_value)
    return (y if batch_first else y.transpose(0, 1).contiguous()), sequence.lengths


@contextlib.contextmanager
def packing_understood(module: nn.Module) -> Iterator[None]:
    """Let the code of ``module`` and of its children pack into Ragged while entered."""
    stand_ins: dict[Callable[..., Any], Callable[..., Any]] = {
        rnn.pack_padded_sequence: _pack,
        rnn.pad_packed_sequence: _pad,
        rnn.PackedSequence: Ragged,
    }
    with names_exchanged(homes_of(module), stand_ins):
        yield
