"""Modules whose forward takes a mask, in every form that people give it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cellgate.export.exportable import prepare

from .foreign_modules import H, I


def attended(self: Any, o: Tensor, hidden: Tensor, floor: float = float("-inf")) -> Tensor:
    """Return the attention over steps that are not hidden [B, T]."""
    weights = self.score(o).squeeze(-1).masked_fill(hidden, floor).softmax(1)
    return self.head((o * weights.unsqueeze(-1)).sum(1))


def bool_real(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return attended(self, self.rnn(x)[0], ~mask)


def bool_padding(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return attended(self, self.rnn(x)[0], mask)


def name_that_lies(self: Any, x: Tensor, padding_mask: Tensor) -> Tensor:
    return attended(self, self.rnn(x)[0], ~padding_mask, -1e9)


def whole_numbers(self: Any, x: Tensor, attention_mask: Tensor) -> Tensor:
    weights = (self.score(self.rnn(x)[0]).squeeze(-1) + (1 - attention_mask) * -10000.0).softmax(1)
    return self.head((self.rnn(x)[0] * weights.unsqueeze(-1)).sum(1))


def floats(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return self.head(torch.matmul(mask.unsqueeze(1), self.rnn(x)[0]).squeeze(1) / mask.sum(1, keepdim=True))


def column(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return self.head((self.rnn(x)[0] * mask).sum(1) / mask.sum(1))


def row(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    o = self.rnn(x)[0]
    weights = self.score(o).transpose(1, 2).masked_fill(mask == 0, -1e9).softmax(-1)
    return self.head((weights @ o).squeeze(1))


def each_step(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return self.head(self.rnn(x)[0] * mask.unsqueeze(-1))


def counted_and_packed(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
    return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.size(1))[0])


def with_lengths(self: Any, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    o = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.size(1))[0]
    return attended(self, o, mask == 0)


def optional(self: Any, x: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
    o = self.rnn(x)[0]
    hidden = torch.zeros(x.shape[:2], dtype=torch.bool) if src_key_padding_mask is None else src_key_padding_mask
    return attended(self, o, hidden)


def made(forward: Callable[..., Any], **options: Any) -> nn.Module:
    """Return a module of this forward around nn.LSTM, with a score for each step and a head."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, **{"batch_first": True, **options})
            width = H * (2 if options.get("bidirectional") else 1)
            self.score, self.head = nn.Linear(width, 1), nn.Linear(width, 2)

    Made.forward = forward
    return Made().eval()


def form_of(module: nn.Module, told: dict[str, str] | None = None) -> str:
    """Return what cellgate says of the mask that it makes."""
    return str(prepare(module, told).description.get("mask", ""))
