"""Loops that make something of their state between the steps: they reset it, or keep it flat."""

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import UnsupportedLayerError
from cellgate.export.exportable import prepare

from .looped_modules import H, I

pytestmark = [pytest.mark.long, pytest.mark.no_cover]


class Episodes(nn.Module):
    """A policy: torch's layer called step by step, from zeros again where the last number of a step says so."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(I - 1, H), nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows, steps, _ = x.shape
        done = (x[..., -1] > 0.5).float().transpose(0, 1)
        state = torch.zeros(1, rows, H), torch.zeros(1, rows, H)
        seen = []
        for step, over in zip(x[..., :-1].transpose(0, 1), done, strict=True):
            kept = (1.0 - over).view(1, -1, 1)
            y, state = self.rnn(step.unsqueeze(0), (kept * state[0], kept * state[1]))
            seen += [y]
        return self.head(torch.flatten(torch.cat(seen), 0, 1)).view(steps, rows, 2).transpose(0, 1)


class KeptFlat(nn.Module):
    """Ordered neurons: gates for chunks of the state, which is flat between the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.size(0), H)
        seen = []
        for step in x.unbind(1):
            keep, show, new = (self.from_x(step) + self.from_h(h)).view(-1, 6, H // 2).chunk(3, 1)
            c = keep.sigmoid() * c.view(-1, 2, H // 2) + (1 - keep.sigmoid()) * new.tanh()
            h, c = (show.sigmoid() * c.tanh()).view(-1, H), c.view(-1, H)
            seen.append(h)
        return torch.stack(seen, 1)


@pytest.mark.parametrize("make", [Episodes, KeptFlat])
def test_loop_is_exported_and_streams(exported, make: type[nn.Module]) -> None:
    module = make().eval()

    graph = exported(module)

    assert graph.inputs == ["x", "lengths", "h0", "c0"]
    x, lengths, *state = (tensor.numpy() for tensor in graph.exportable.example(3, 11))
    state = [0 * tensor for tensor in state]
    whole = graph.run(x, lengths, *state)[0]
    for row, count in enumerate(lengths):
        with torch.no_grad():
            expected = module(torch.from_numpy(x[row : row + 1, :count])).numpy()
        assert abs(whole[row, :count] - expected[0]).max() < 2e-6
    first, *state = graph.run(x[:, :4], 0 * lengths + 4, *state)
    second, *_ = graph.run(x[:, 4:], 0 * lengths + 7, *state)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    assert abs(first - expected[:, :4]).max() < 2e-6
    assert abs(second - expected[:, 4:]).max() < 2e-6


def test_loop_that_reads_the_last_state_but_one_is_told_as_that() -> None:
    class EveryOther(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(I, H)

        def forward(self, x: Tensor) -> Tensor:
            states = [x.new_zeros(x.size(0), H)] * 2
            for step in x.unbind(1):
                states.append(self.cell(step, states[-2]))
            return torch.stack(states[2:], 1)

    with pytest.raises(UnsupportedLayerError, match="or looks back to the last state but one alone"):
        prepare(EveryOther())
