"""Packed sequences for the time of an export: PyTorch's own cannot be captured, so a stand-in carries the same facts.

A module that packs knows each row's length and says so to its recurrent layer; that is just what the graph needs. While
``packing_understood`` is entered, ``pack_padded_sequence`` and ``pad_packed_sequence`` give and take a Ragged instead
of a PackedSequence, wherever the module's own code looks them up; afterwards everything is as before. Code that maps
``packed.data`` and packs it again finds what it needs for that in a Ragged.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn


@dataclass(frozen=True, slots=True)
class Ragged:
    """A padded batch with its lengths: data [B, T, W], lengths int64 [B]; rows keep their order."""

    data: Tensor
    lengths: Tensor
    sorted_indices: None = None
    unsorted_indices: None = None

    @property
    def batch_sizes(self) -> Tensor:
        """What ``PackedSequence(data, packed.batch_sizes, ...)`` is to be made with: the lengths."""
        return self.lengths

    def _replace(self, *, data: Tensor) -> "Ragged":
        """Return the same with other data, as PackedSequence does, which is a named tuple."""
        return replace(self, data=data)


def _pack(input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Ragged:  # noqa: A002, ARG001
    """Stand in for torch.nn.utils.rnn.pack_padded_sequence; rows keep their order, so none need be sorted.

    Torch's own takes no row of nothing, which a module may count that tells padding by a token; here it has one step.
    """
    return Ragged(input if batch_first else input.transpose(0, 1), torch.as_tensor(lengths).clamp(min=1))


def _pad(
    sequence: Ragged, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Stand in for torch.nn.utils.rnn.pad_packed_sequence; the padded length is that of the input."""
    del total_length
    y = sequence.data
    if padding_value != 0.0:
        steps = torch.arange(y.size(1), device=y.device).unsqueeze(0)
        y = y.masked_fill((steps >= sequence.lengths.unsqueeze(1)).unsqueeze(2), padding_value)
    return (y if batch_first else y.transpose(0, 1).contiguous()), sequence.lengths


@contextlib.contextmanager
def packing_understood(module: nn.Module) -> Iterator[None]:
    """Let the code of ``module`` and of its children pack into Ragged while entered."""
    # By identity, for what is looked up may be of any kind, also one that cannot be hashed.
    stand_ins: dict[int, Callable[..., Any]] = {
        id(rnn.pack_padded_sequence): _pack,
        id(rnn.pad_packed_sequence): _pad,
        id(rnn.PackedSequence): Ragged,
    }
    undo: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for home in homes_of(module):
            for name, value in list(home.items()):
                replacement = stand_ins.get(id(value))
                if replacement is not None:
                    undo.append((home, name, value))
                    home[name] = replacement
        yield
    finally:
        for home, name, value in undo:
            home[name] = value


def homes_of(module: nn.Module) -> list[dict[str, Any]]:
    """Return the globals in which the code of ``module`` and of its children looks up its names, each once."""
    kinds = {kind for child in module.modules() for kind in type(child).__mro__}
    methods = [one for kind in kinds for one in vars(kind).values() if isinstance(one, FunctionType)]
    # A method's own module may be another than that of its class: forward may have been put there.
    names = {kind.__module__ for kind in kinds} | {method.__module__ for method in methods}
    names = {name for name in names if name in sys.modules and not name.startswith("torch.")} | {rnn.__name__}
    return [vars(sys.modules[name]) for name in sorted(names)]
