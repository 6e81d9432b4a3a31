"""Loops over time that need more than a sequence, or cannot be looked into, are refused; the remedies work."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import ExportError, SourceError, UnsupportedLayerError
from cellgate.export.exportable import prepare

from .looped_modules import H, I, O


class OneStep(nn.Module):
    """A step; the loop is in somebody's training code."""

    def __init__(self) -> None:
        super().__init__()
        self.joint = nn.Linear(I + H, H)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.joint(torch.cat([x, hidden], 1)))
        return hidden, hidden


class NeedsItsStart(nn.Module):
    """Loops over the steps, from a state that it has to be given."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.head = OneStep(), nn.Linear(H, O)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        outputs = []
        for t in range(x.size(1)):
            y, hidden = self.step(x[:, t], hidden)
            outputs.append(self.head(y))
        return torch.stack(outputs, 1), hidden


class OneStepLooped(nn.Module):
    """What the refusal of NeedsItsStart advises."""

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


class GivenZeros(nn.Module):
    """What it advises where forward is not to be changed."""

    def __init__(self) -> None:
        super().__init__()
        self.net = NeedsItsStart()

    def forward(self, x: Tensor) -> Any:
        return self.net(x, torch.zeros(x.size(0), H))


def test_loop_that_needs_a_state_is_refused_and_the_remedies_work() -> None:
    said = r"give it the default None and make zeros .* as self\.net\(x, torch\.zeros\(x\.size\(0\), H\)\); loop over"
    with pytest.raises(UnsupportedLayerError, match=said):
        prepare(NeedsItsStart())

    assert prepare(OneStepLooped()).signature.state
    assert prepare(GivenZeros()).signature.state


def test_module_of_one_step_is_put_in_the_loop_that_was_advised() -> None:
    module, looped = OneStep(), OneStepLooped()
    looped.step.load_state_dict(module.state_dict())

    one, other = prepare(module), prepare(looped)

    assert one.signature == other.signature
    x, _, h = one.example()
    with torch.no_grad():
        assert torch.allclose(one.network(x, None, [h])[0], other.network(x, None, [h])[0], atol=1e-6)


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
