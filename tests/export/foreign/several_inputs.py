"""Modules of several inputs, as people write them."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Mixed(nn.Module):
    """Vectors, numbers, tokens and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(10, 4), nn.LSTM(3 + 1 + 4, 8, batch_first=True)
        self.head = nn.Linear(8 + 2, 1)

    def forward(self, x: Tensor, delta: Tensor, tokens: Tensor, static: Tensor) -> Tensor:
        steps = torch.cat([x, delta.unsqueeze(-1), self.embed(tokens)], -1)
        return self.head(torch.cat([self.rnn(steps)[1][0][-1], static], 1))  # type: ignore[no-any-return]


class Decayed(nn.Module):
    """A loop over steps, values that are missing, and the time since they were there (GRU-D)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.decay, self.head = nn.GRUCell(8, 6), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, values: Tensor, mask: Tensor, delta: Tensor) -> Tensor:
        h = torch.zeros(values.size(0), 6)
        last = torch.zeros(values.size(0), 4)
        for t in range(values.size(1)):
            last = mask[:, t] * values[:, t] + (1 - mask[:, t]) * last
            h = torch.exp(-torch.relu(self.decay(delta[:, t]))) * h
            h = self.cell(torch.cat([last, mask[:, t]], 1), h)
        return self.head(h)  # type: ignore[no-any-return]


class Aged(nn.Module):
    """A loop that is at home with times that are not negative."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 5)

    def forward(self, x: Tensor, age: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c / torch.log(2.7183 + age[:, t : t + 1])))
        return h


class Answered(nn.Module):
    """Nothing but tokens: which question, and whether the answer was right."""

    def __init__(self, joint: bool = False) -> None:
        super().__init__()
        self.joint = joint
        self.question, self.right = nn.Embedding(22 if joint else 11, 6), nn.Embedding(2, 6)
        self.rnn, self.head = nn.LSTM(12, 8, batch_first=True), nn.Linear(8, 11)

    def forward(self, q: Tensor, r: Tensor) -> Tensor:
        asked = self.question(q + 11 * r) if self.joint else self.question(q)
        return self.head(self.rnn(torch.cat([asked, self.right(r)], -1))[0])  # type: ignore[no-any-return]


class Speaker(nn.Module):
    """Lengths beside a number that is one for the whole sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.voice, self.rnn = nn.Embedding(7, 4), nn.GRU(6 + 4, 8, batch_first=True)

    def forward(self, mel: Tensor, lengths: Tensor, speaker_id: Tensor) -> Tensor:
        voice = self.voice(speaker_id).unsqueeze(1).expand(-1, mel.size(1), -1)
        packed = pack_padded_sequence(torch.cat([mel, voice], -1), lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


class Filled(nn.Module):
    """A mask that has to be bool."""

    def __init__(self) -> None:
        super().__init__()
        self.fill, self.rnn = nn.Parameter(torch.randn(4)), nn.LSTM(4, 8, batch_first=True)

    def forward(self, values: Tensor, missing: Tensor) -> Tensor:
        return self.rnn(torch.where(missing, self.fill, values))[0]  # type: ignore[no-any-return]


class StepsFirst(nn.Module):
    """Steps before rows, in each argument."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(5, 8), nn.Linear(8 + 2, 3)

    def forward(self, x: Tensor, delta: Tensor, static: Tensor) -> Tensor:
        y, _ = self.rnn(torch.cat([x, delta.unsqueeze(-1)], -1))
        return self.head(torch.cat([y, static.unsqueeze(0).expand(y.size(0), -1, -1)], -1))  # type: ignore[no-any-return]


class ByPlace(nn.Module):
    """Arguments that may not be named."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, x: Tensor, delta: Tensor, /, scale: float = 2.0) -> Tensor:
        return self.rnn(torch.cat([x, delta], -1))[0] * scale  # type: ignore[no-any-return]


class Acts(nn.Module):
    """A state that is needed, and the action before as a whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(5 + 4 + 1, 8, batch_first=True), nn.Linear(8, 4)

    def forward(
        self, obs: Tensor, last_action: Tensor, reward: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        action = functional.one_hot(last_action, 4).float()
        y, state = self.rnn(torch.cat([obs, action, reward.unsqueeze(-1)], -1), state)
        return self.head(y), state


class Steps(nn.Module):
    """One step a call."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(5 + 2, 8), nn.Linear(8, 3)

    def forward(self, obs: Tensor, before: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(torch.cat([obs, before], -1), (h, c))
        return self.head(h), h, c


class Places(nn.Module):
    """Two tables of unlike sizes for the columns of one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.site, self.kind = nn.Embedding(5, 3), nn.Embedding(3, 3)
        self.rnn = nn.GRU(2 + 6, 4, batch_first=True)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        where = torch.cat([self.site(place[:, 0]), self.kind(place[:, 1])], 1)
        return self.rnn(torch.cat([x, where.unsqueeze(1).expand(-1, x.size(1), -1)], 2))[0]  # type: ignore[no-any-return]


class Resets(nn.Module):
    """A layer in a loop over time, whose state begins anew where an episode does."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 6), nn.Linear(6, 3)

    def forward(self, obs: Tensor, masks: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = obs.new_zeros(1, obs.size(0), 6) if hidden is None else hidden
        said = []
        for step, mask in zip(obs.transpose(0, 1), masks.transpose(0, 1), strict=True):
            y, h = self.rnn(step.unsqueeze(0), h * mask.view(1, -1, 1))
            said.append(y)
        return self.head(torch.cat(said)).transpose(0, 1), h


class NeedsItsState(Resets):
    def forward(self, obs: Tensor, masks: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(obs, masks, hidden)


class Streams(nn.Module):
    """Vectors and up to six streams of tokens, each with a table of its own."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(3 + k, 2) for k in range(count))
        self.rnn = nn.GRU(3 + 2 * count, 4, batch_first=True)

    def forward(
        self,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor | None = None,
        d: Tensor | None = None,
        e: Tensor | None = None,
        f: Tensor | None = None,
    ) -> Tensor:
        given = zip(self.tables, (a, b, c, d, e, f), strict=False)
        return self.rnn(torch.cat([x, *(table(tokens) for table, tokens in given)], -1))[0]  # type: ignore[no-any-return]


class Chooses(nn.Module):
    """One step a call, with the choice before as a whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.cell = nn.Embedding(4, 2), nn.GRUCell(3 + 2, 5)

    def forward(self, obs: Tensor, before: Tensor, h: Tensor) -> Tensor:
        return self.cell(torch.cat([obs, self.table(before)], 1), h)  # type: ignore[no-any-return]
