"""Modules whose front leaves their recurrent layer fewer steps than came in, and some that look like it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

I, C, H, O = 3, 5, 6, 2


def last(y: Tensor) -> Tensor:
    return y[:, -1]


class Fronted(nn.Module):
    """A front over channels [B, I, T], a layer over what it leaves, and what ``read`` takes of its steps."""

    def __init__(
        self,
        *front: nn.Module,
        read: Callable[[Tensor], Tensor] = last,
        width: int = C,
        kind: Any = nn.LSTM,
        **options: Any,
    ) -> None:
        super().__init__()
        self.front = nn.Sequential(*front)
        self.rnn = kind(width, H, batch_first=True, **options)
        self.score = nn.Linear(2 * H if options.get("bidirectional") else H, O)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.front(x.transpose(1, 2)).transpose(1, 2))
        return self.score(self.read(y))  # type: ignore[no-any-return]


class ChannelsFirst(Fronted):
    """Takes [B, I, T] as convolutions do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2))


class Words(nn.Module):
    """Windows over embedded tokens, the largest of each four, and a layer over those."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, I)
        self.windows = nn.Conv1d(I, C, 5)
        self.rnn = nn.GRU(C, H, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        found = functional.relu(self.windows(self.words(tokens).transpose(1, 2)))
        return self.rnn(functional.max_pool1d(found, 4).transpose(1, 2))[1][0]  # type: ignore[no-any-return]


class TwoLayers(nn.Module):
    """A layer that sees every step, and one that sees the means of two."""

    def __init__(self) -> None:
        super().__init__()
        self.every, self.second = nn.LSTM(I, C, batch_first=True), nn.LSTM(C, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.every(x)
        return self.second(functional.avg_pool1d(y.transpose(1, 2), 2).transpose(1, 2))[0][:, -1]  # type: ignore[no-any-return]


class Beside(nn.Module):
    """A layer that sees every step, and beside it a convolution that needs some."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.rnn, self.wide = nn.LSTM(I, H, batch_first=True), nn.Conv1d(I, C, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.rnn(x)[0][:, -1], self.wide(x.transpose(1, 2)).mean(2)], 1)


class Started(nn.Module):
    """One step of its own before those that are given."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.first = nn.LSTM(I, H, batch_first=True), nn.Parameter(torch.randn(1, 1, I))

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(torch.cat([self.first.expand(x.size(0), -1, -1), x], 1))[0][:, -1]  # type: ignore[no-any-return]


class Forecast(nn.Module):
    """What one layer made of the sequence is said to another three times: that layer always sees three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.tells = nn.LSTM(I, C, batch_first=True), nn.LSTM(C, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.reads(x)
        return self.tells(h[-1].unsqueeze(1).repeat(1, 3, 1))[0].flatten(1)  # type: ignore[no-any-return]


class Spread(nn.Module):
    """Deviations over time, of which a single step has none: pooled with the mean, or taken out of the sequence."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__()
        self.rnn, self.score = nn.GRU(I, H, batch_first=True), nn.Linear(2 * H, O)
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        if not self.pooled:
            x = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-2)
        y, _ = self.rnn(x)
        return self.score(torch.cat([y.mean(1), y.std(1) if self.pooled else y[:, -1]], 1))  # type: ignore[no-any-return]


class Attentive(Fronted):
    """Reads a mean over the steps, weighted by what they say."""

    def __init__(self) -> None:
        super().__init__(nn.Conv1d(I, C, 3, padding=1), nn.MaxPool1d(2), bidirectional=True)
        self.weigh = nn.Linear(2 * H, 1)
        self.read = lambda y: (torch.softmax(self.weigh(y), 1) * y).sum(1)


class PackedHalves(nn.Module):
    """Takes the larger of two steps each, and packs by half its lengths: a row's own steps and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        halves = functional.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2)
        packed = pack_padded_sequence(halves, (lengths // 2).cpu(), batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1][0][-1]  # type: ignore[no-any-return]


class PackedConvolution(PackedHalves):
    """The same behind a window of three, which at a row's end reaches into the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.window = nn.Conv1d(I, I, 3, padding=1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(self.window(x.transpose(1, 2)).transpose(1, 2), lengths)


class PackedUp(PackedHalves):
    """Packs by half its lengths rounded up: the last window of an odd row reaches into the padding."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        halves = functional.max_pool1d(x.transpose(1, 2), 2).transpose(1, 2)
        counts = ((lengths + 1) // 2).clamp(max=halves.size(1)).cpu()
        return self.rnn(pack_padded_sequence(halves, counts, batch_first=True, enforce_sorted=False))[1][0][-1]  # type: ignore[no-any-return]


class PackedByCeilMode(PackedHalves):
    """The same where the last window of a row alone holds what is left."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        halves = functional.max_pool1d(x.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2)
        counts = ((lengths + 1) // 2).cpu()
        return self.rnn(pack_padded_sequence(halves, counts, batch_first=True, enforce_sorted=False))[1][0][-1]  # type: ignore[no-any-return]
