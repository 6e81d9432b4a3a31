"""Modules that take one step a call, as people write them: the state is an argument, and given back."""

from typing import Any

import torch
from torch import Tensor, nn

I, H, O = 4, 6, 3


class Joined(nn.Module):
    """Input and hidden side by side, the first recurrent network of many; its state is made for one row."""

    def __init__(self) -> None:
        super().__init__()
        self.to_hidden, self.to_answer = nn.Linear(I + H, H), nn.Linear(H, O)

    def forward(self, input: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002
        hidden = torch.tanh(self.to_hidden(torch.cat((input, hidden), 1)))
        return torch.log_softmax(self.to_answer(hidden), dim=1), hidden

    def initHidden(self) -> Tensor:  # noqa: N802
        return torch.zeros(1, H)


class PairInHead(nn.Module):
    """One of torch's cells with its pair of states, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(I, H), nn.Linear(H, O)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = self.cell(x, state)
        return self.head(h), (h, c)


class FourStates(nn.Module):
    """Two cells of unequal width, each state an argument, cells after hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.head = nn.LSTMCell(I, H), nn.LSTMCell(H, H - 1), nn.Linear(H - 1, O)

    def forward(
        self, x: Tensor, h1: Tensor, h2: Tensor, c1: Tensor, c2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        h1, c1 = self.low(x, (h1, c1))
        h2, c2 = self.high(h1, (h2, c2))
        return self.head(h2), h1, h2, c1, c2


class Words(nn.Module):
    """Tokens, layers of torch called with one step, a decoder."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, num_layers: int = 2) -> None:
        super().__init__()
        self.encoder, self.rnn, self.decoder = nn.Embedding(11, I), kind(I, H, num_layers), nn.Linear(H, 11)

    def forward(self, token: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        rows = token.size(0)
        said, hidden = self.rnn(self.encoder(token).view(1, rows, -1), hidden)
        return self.decoder(said.view(rows, -1)), hidden

    def init_hidden(self, batch_size: int) -> Tensor:
        return torch.zeros(self.rnn.num_layers, batch_size, self.rnn.hidden_size)


class WordsOfOneRow(nn.Module):
    """As the decoder of a translator: its views say that there is one row."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru, self.out = nn.Embedding(11, H), nn.GRU(H, H), nn.Linear(H, 11)

    def forward(self, token: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        said, hidden = self.gru(torch.relu(self.embedding(token).view(1, 1, -1)), hidden)
        return torch.log_softmax(self.out(said[0]), dim=1), hidden

    def initHidden(self) -> Tensor:  # noqa: N802
        return torch.zeros(1, 1, H)


class ReadsItsState(nn.Module):
    """What its layer reads holds the state too, so its steps are no rows; batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(I + H, H, batch_first=True), nn.Linear(2 * H, O)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        joined = torch.cat((x, state[0][-1]), 1)
        _, (h, c) = self.lstm(joined.unsqueeze(1), state)
        return self.head(torch.cat((h[-1], c[-1]), 1)), (h, c)


class StackedPair(nn.Module):
    """Both states of its cell in one tensor [2, B, H], as detectors of speech have it; it may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(I, H), nn.Linear(H, O)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        state = x.new_zeros(2, x.size(0), H) if state is None else state
        h, c = self.cell(x, (state[0], state[1]))
        return self.head(h), torch.stack([h, c])


class LayersInOneTensor(nn.Module):
    """Hidden and cell states of all layers in one tensor [2 * L, B, H]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(I, H, 2), nn.Linear(H, O)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, c = state.chunk(2, 0)
        said, (h, c) = self.lstm(x.unsqueeze(0), (h.contiguous(), c.contiguous()))
        return self.head(said[0]), torch.cat([h, c])


class SideBySide(nn.Module):
    """Both states of its cell side by side, [B, 2 * H]."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(I, H), nn.Linear(H, O)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h, c = self.cell(x, state.chunk(2, 1))
        return self.head(h), torch.cat([h, c], 1)


class PolicyWithResets(nn.Module):
    """A policy whose last number of a step resets its state [B, 1, H], rows first."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.gru, self.head = nn.Linear(I, H), nn.GRU(H, H), nn.Linear(H, O)

    def forward(self, x: Tensor, hxs: Tensor) -> tuple[Tensor, Tensor]:
        kept = (x[:, -1:] > 0).float()
        said, hxs = self.gru(
            torch.relu(self.front(x)).unsqueeze(0), (hxs * kept.unsqueeze(-1)).transpose(0, 1).contiguous()
        )
        return self.head(said.squeeze(0)), hxs.transpose(0, 1)


class CellBeforeHidden(nn.Module):
    """Takes the cell state first, and returns what it looked at, too."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(I, H), nn.Linear(H, O)

    def forward(self, x: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, c = self.cell(x, (h, c))
        weights = torch.softmax(h, 1)
        return self.head(weights * h), c, h, weights


class DelayLine(nn.Module):
    """Its state is the last three inputs, of rank three: no cell that anybody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.taps = nn.Linear(4 * I, O)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        seen = torch.cat((memory, x.unsqueeze(1)), 1)
        return self.taps(seen.flatten(1)), seen[:, 1:]

    def zero_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 3, I)


class ListOfPairs(nn.Module):
    """Cells above each other, their states a list of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(I, H), nn.LSTMCell(H, H)])

    def forward(self, x: Tensor, states: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            x, c = cell(x, state)
            new.append((x, c))
        return x, new


class StateAlone(nn.Module):
    """A cell that gives nothing but its new state."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(I, H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.relu(self.from_x(x) + self.from_h(h))


class NewNames(nn.Module):
    """Gives its states back under other names and in another order, behind something of their shape."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.mix, self.head = nn.LSTMCell(I, H), nn.Linear(H, H), nn.Linear(H, O)

    def forward(self, x: Tensor, h_prev: Tensor, c_prev: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h_new, c_new = self.cell(x, (h_prev, c_prev))
        context = torch.tanh(self.mix(h_new))
        return self.head(context), context, c_new, h_new


class Clipped(nn.Module):
    """A layer of torch, whose cell state is clipped before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(I, H), nn.Linear(H, O)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        said, state = self.lstm(x.unsqueeze(0), (h, c.clamp(-5.0, 5.0)))
        return self.head(said[0]), state


class NamesFloat32(nn.Module):
    """Says float32 in its code, as code for half precision does."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(I, H), nn.Linear(H, O)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x.float(), h.float())
        return self.head(h), h


class InDict(nn.Module):
    """Gives back a dict with what it has none of, its state first, and an answer of the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(I, H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> dict[str, Tensor | None]:
        h = self.cell(x, h)
        return {"loss": None, "hidden": h, "logits": self.head(h)}


class PairInDict(PairInHead):
    """Gives back a dict with a pair of states."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        y, state = super().forward(x, state)
        return {"y": y, "state": state}


class DictOfTensors(nn.Module):
    """Gives back a dict of tensors alone, its state first, under keys that are no names."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(I, H), nn.Linear(H, O)

    def forward(self, x: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        hidden = self.cell(x, hidden)
        return {"hidden": hidden, "it's": self.head(hidden)}
