"""Loops over time that people write in a module's own forward: rolled up, proved, and right for any length."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import ExportError, SourceError, UnsupportedLayerError
from cellgate.export.exportable import prepare
from cellgate.export.foreign_network import ForeignNetwork

pytestmark = pytest.mark.long

I, H, O = 4, 6, 3


def scaled(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.3)


class Written(nn.Module):
    """An LSTM from nothing: one matrix for x and one for h, columns first, and the list that people make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h, self.offset = scaled(I, 4 * H), scaled(H, 4 * H), scaled(4 * H)

    def forward(self, x: Tensor, start: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows, steps, _ = x.size()
        h, c = start if start is not None else (torch.zeros(rows, H), torch.zeros(rows, H))
        seen = []
        for t in range(steps):
            mixed = x[:, t, :] @ self.from_x + h @ self.from_h + self.offset
            keep, let, show = torch.sigmoid(mixed[:, : 3 * H]).chunk(3, 1)
            c = keep * c + let * torch.tanh(mixed[:, 3 * H :])
            h = show * torch.tanh(c)
            seen.append(h.unsqueeze(0))
        return torch.cat(seen, dim=0).transpose(0, 1).contiguous(), (h, c)


class Classifier(nn.Module):
    """Tokens, a layer written by hand deep inside, its last step, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, I)
        self.encoder = Written()
        self.head = nn.Linear(H, O)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.encoder(self.words(tokens))[0][:, -1, :]), dim=1)


class TwoCells(nn.Module):
    """Two of torch's cells in one loop, with a head in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.LSTMCell(I, H), nn.LSTMCell(H, H)
        self.head = nn.Linear(H, O)

    def forward(self, x: Tensor) -> Tensor:
        a = b = c = d = torch.zeros(x.size(0), H)
        said = []
        for piece in x.split(1, dim=1):
            a, b = self.low(piece.squeeze(1), (a, b))
            c, d = self.high(nn.functional.dropout(a, 0.5, self.training), (c, d))
            said += [self.head(c)]
        return torch.stack(said, 1)


class Filled(nn.Module):
    """A GRU of separate maps that fills its output in place, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.x_maps, self.h_maps = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(1), H)
        out = torch.zeros(x.size(0), x.size(1), H)
        for t in range(x.size(0)):
            for_x, for_h = self.x_maps(x[t]).chunk(3, -1), self.h_maps(h).chunk(3, -1)
            z = torch.sigmoid(for_x[0] + for_h[0])
            n = torch.tanh(for_x[2] + torch.sigmoid(for_x[1] + for_h[1]) * for_h[2])
            h = z * h + (1 - z) * n
            out[t, :, :] = h
        return out


class BothWays(nn.Module):
    """A cell for each direction, in loops of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = nn.GRUCell(I, H), nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        forwards, backwards = [], []
        h = None
        for step in x.unbind(1):
            h = self.there(step, h)
            forwards.append(h)
        h = None
        for t in reversed(range(x.size(1))):
            h = self.back(x[:, t], h)
            backwards.insert(0, h)
        return torch.cat([torch.stack(forwards, 1), torch.stack(backwards, 1)], 2)


class Layered(nn.Module):
    """A list of states, one for each layer, stacked anew at every step; what x alone decides comes before the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(I, H)
        self.maps = nn.ModuleList([nn.Linear(H, H) for _ in range(2)])
        self.peep = scaled(H)

    def forward(self, x: Tensor) -> Tensor:
        rows, steps, _ = x.shape
        gates = torch.sigmoid(self.gates(x.reshape(-1, I))).view(rows, steps, H)
        states = torch.zeros(2, rows, H)
        for t in range(steps):
            below, new = gates[:, t], []
            for k, one in enumerate(self.maps):
                old = states[k]
                below = torch.tanh(one(old) + self.peep * old) * below + (1 - below) * old
                new.append(below)
            states = torch.stack(new)
        return states[-1]


class KeptInSelf(nn.Module):
    """The state held as an attribute, begun anew in forward from what was learned; the mean over time as output."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(I, H, nonlinearity="relu")
        self.start = scaled(1, H)

    def forward(self, x: Tensor) -> Tensor:
        self.h = self.start.expand(x.size(0), -1)
        total = []
        for t in range(x.shape[1]):
            self.h = self.cell(x[:, t], self.h)
            total.append(self.h)
        return torch.stack(total, 1).mean(1)


class ByColumns(nn.Module):
    """The batch as columns."""

    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h, self.offset, self.out = scaled(H, I), scaled(H, H), scaled(H, 1), scaled(O, H)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(H, x.size(0))
        for t in range(x.size(1)):
            h = torch.tanh(self.from_x @ x[:, t].t() + self.from_h @ h + self.offset)
        return (self.out @ h).t()


class TokensInTheLoop(nn.Module):
    """The embedding is read step by step, and the output gate only after the state is."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.maps, self.peep = nn.Embedding(11, H), nn.Linear(H, 2 * H), scaled(H)

    def forward(self, tokens: Tensor) -> Tensor:
        c = torch.zeros(tokens.size(0), H)
        out = []
        for t in range(tokens.size(1)):
            word = self.words(tokens[:, t])
            keep, show = torch.split(self.maps(word), H, dim=1)
            keep = torch.sigmoid(keep + self.peep * c)
            c = keep * c + (1 - keep) * word
            out.append(torch.sigmoid(show) * torch.tanh(c))
        return torch.stack(out, dim=1)


def sequence(exportable: Any, rows: int, steps: int) -> Tensor:
    if exportable.signature.vocabulary_size:
        return torch.randint(0, exportable.signature.vocabulary_size, (rows, steps))
    return torch.randn(rows, steps, exportable.signature.inputs[0].shape[-1])


def first(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result[0]


@pytest.mark.parametrize(
    ("make", "operators", "time_first"),
    [
        pytest.param(Written, ["Scan"], False, id="one-matrix"),
        pytest.param(Classifier, ["Scan"], False, id="tokens-last-step"),
        pytest.param(TwoCells, ["LSTM", "LSTM"], False, id="two-cells"),
        pytest.param(Filled, ["Scan"], True, id="filled-in-place"),
        pytest.param(BothWays, ["GRU", "GRU"], False, id="both-directions"),
        pytest.param(Layered, ["Scan", "Scan"], False, id="stacked-states"),
        pytest.param(KeptInSelf, ["Scan"], False, id="learned-start"),
        pytest.param(ByColumns, ["Scan"], False, id="batch-last"),
        pytest.param(TokensInTheLoop, ["Scan"], False, id="tokens-in-the-loop"),
    ],
)
def test_loop_in_forward_becomes_layers_that_give_what_it_gives(
    make: Callable[[], nn.Module], operators: list[str], time_first: bool
) -> None:
    module = make().eval()

    exportable = prepare(module)

    assert [layer.operator for layer in exportable.layers] == operators
    for rows, steps in ((1, 1), (2, 3), (4, 19)):
        x = sequence(exportable, rows, steps)
        with torch.no_grad():
            expected = first(module(x.transpose(0, 1) if time_first else x))
            found, _ = exportable.network(x)
        expected = expected.transpose(0, 1) if time_first else expected
        assert expected.shape == found.shape
        assert float((expected - found).abs().max()) < 2e-6


def test_rolled_network_exports_with_lengths_and_state_and_streams(exported: Any) -> None:
    module = Classifier().eval()

    graph = exported(module)

    assert graph.inputs == ["tokens", "lengths", "h0", "c0"]
    tokens, lengths = torch.randint(0, 11, (3, 9)), np.array([9, 4, 1], np.int32)
    zeros = np.zeros((1, 3, H), np.float32)
    whole, h, c = graph.run(tokens.numpy(), lengths, zeros, zeros)
    for row, count in enumerate(lengths):
        with torch.no_grad():
            expected = module(tokens[row : row + 1, :count])
        assert float(np.abs(expected.numpy() - whole[row]).max()) < 2e-6
    one = [tensor[:, :1] for tensor in (zeros, zeros)]
    for chunk in (slice(0, 2), slice(2, 9)):
        part = tokens[:1, chunk].numpy()
        y, *one = graph.run(part, np.array([part.shape[1]], np.int32), *one)
    assert float(np.abs(y[0] - whole[0]).max()) < 2e-6
    assert float(np.abs(one[0][0, 0] - h[0, 0]).max()) < 2e-6
    assert float(np.abs(one[1][0, 0] - c[0, 0]).max()) < 2e-6


def test_two_cells_and_a_head_in_one_loop_are_fused_operators(exported: Any) -> None:
    graph = exported(TwoCells())

    assert graph.operators["LSTM"] == 2
    assert "Scan" not in graph.operators
    assert graph.largest_difference() < 2e-6


def test_original_is_left_as_it_was() -> None:
    module = TwoCells().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    prepare(module)

    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.get_default_dtype() is torch.float32


def test_state_starts_from_what_the_module_starts_from() -> None:
    network = ForeignNetwork(KeptInSelf())

    assert network.carries_state is False
    assert not network.honours_lengths  # the mean is over all steps


class Looped(nn.Module):
    """A cell and a loop that tests give."""

    def __init__(self, loop: Callable[..., Any]) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)
        self.head = nn.Linear(H, O)
        self.loop = loop

    def forward(self, x: Tensor) -> Any:
        return self.loop(self, x)


def from_chance(net: Looped, x: Tensor) -> Tensor:
    h = torch.randn(x.size(0), H)
    for step in x.unbind(1):
        h = net.cell(step, h)
    return h


def drops_for_ever(net: Looped, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H)
    for step in x.unbind(1):
        h = net.cell(step, nn.functional.dropout(h, 0.5))
    return h


def by_number(net: Looped, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H)
    for t, step in enumerate(x.unbind(1)):
        h = net.cell(step * (t + 1), h)
    return h


def further_back(net: Looped, x: Tensor) -> Tensor:
    states = [torch.zeros(x.size(0), H), torch.zeros(x.size(0), H)]
    for step in x.unbind(1):
        states.append(net.cell(step, states[-1] + states[-2]))
    return states[-1]


def single_steps(net: Looped, x: Tensor) -> Tensor:
    h, seen = torch.zeros(x.size(0), H), []
    for step in x.unbind(1):
        h = net.cell(step, h)
        seen.append(h)
    return seen[1] + seen[-1]


def no_loop(net: Looped, x: Tensor) -> Tensor:
    return net.head(net.cell(x[:, 0]))


def another_device(net: Looped, x: Tensor) -> Tensor:
    raise RuntimeError("no such device")


@pytest.mark.parametrize(
    ("loop", "complaint"),
    [
        pytest.param(from_chance, r"draws random numbers \(randn\)", id="random-start"),
        pytest.param(drops_for_ever, r"draws random numbers \((native_)?dropout\)", id="dropout-in-evaluation"),
        pytest.param(by_number, "does not do the same in every step", id="counts-its-steps"),
        pytest.param(further_back, "looks further back than the step before", id="two-steps-back"),
        pytest.param(single_steps, "reads single steps of it", id="reads-one-step"),
        pytest.param(no_loop, "no loop over time was found", id="one-step"),
        pytest.param(another_device, "said RuntimeError: no such device", id="does-not-run"),
    ],
)
def test_loop_that_cannot_be_rolled_up_is_refused_in_one_sentence(loop: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=complaint) as caught:
        prepare(Looped(loop))

    assert "Looped has no recurrent layer" in str(caught.value)
    assert "\n" not in str(caught.value)


class OneStep(nn.Module):
    """A step; the loop is in somebody's training code."""

    def __init__(self) -> None:
        super().__init__()
        self.joint = nn.Linear(I + H, H)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.joint(torch.cat([x, hidden], 1)))
        return hidden, hidden


class OneStepLooped(nn.Module):
    """What the refusal of OneStep advises."""

    def __init__(self) -> None:
        super().__init__()
        self.step = OneStep()

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = torch.zeros(x.size(0), H) if hidden is None else hidden
        outputs = []
        for t in range(x.size(1)):
            y, hidden = self.step(x[:, t], hidden)
            outputs.append(y)
        return torch.stack(outputs, 1), hidden


def test_module_of_one_step_is_refused_and_the_remedy_works() -> None:
    with pytest.raises(UnsupportedLayerError, match="give it the default None, make zeros in forward, and loop"):
        prepare(OneStep())

    assert prepare(OneStepLooped()).signature.state


class Scalars(nn.Module):
    """Reads [B, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(1, H)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(x.size(0), H)
        for piece in x.split(1, dim=1):
            h, c = self.cell(piece, (h, c))
        return h


class HandsOn(nn.Module):
    """What the refusal of Scalars advises."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Scalars()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[..., 0])


def test_sequence_of_numbers_is_refused_and_the_remedy_works() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"if it takes \[B, T\], wrap it in a module that hands on x"):
        prepare(Scalars())

    assert prepare(HandsOn(), input_dim=1).signature.inputs[0].shape == ("B", "T", 1)


class WithLengths(nn.Module):
    """Masks in its loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), H)
        for t in range(x.size(1)):
            h = torch.where((t < lengths).unsqueeze(1), self.cell(x[:, t], h), h)
        return h


def test_lengths_in_a_loop_are_refused_with_what_to_do() -> None:
    with pytest.raises(UnsupportedLayerError, match="needs lengths; take it out of the loop"):
        prepare(WithLengths())


def test_compiled_torchscript_is_refused_with_what_to_do() -> None:
    class Compiled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.jit.script(nn.Linear(I, H))
            self.rnn = nn.GRU(H, H, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(self.inner(x))[0]

    with pytest.raises(SourceError, match=r"\(inner is a torch.jit.ScriptModule\).*PYTORCH_JIT=0") as caught:
        prepare(Compiled())

    assert isinstance(caught.value, ExportError)


class NeitherLengthsNorState(nn.Module):
    """Looks ahead before its loop and starts from what it learned, so the sequence is all that its graph takes."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(I, I, 3, padding=1)
        self.cell = nn.GRUCell(I, H)
        self.start = scaled(1, H)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x.transpose(1, 2)).transpose(1, 2)
        h = self.start.expand(x.size(0), H)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return h


def test_graph_may_take_the_sequence_alone(exported: Any) -> None:
    graph = exported(NeitherLengthsNorState())

    assert graph.inputs == ["x"]
    assert graph.largest_difference() < 2e-6
