"""Tables whose rows torch scales as they are read: the graph holds them scaled, or the module is refused."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellgate.export.errors import SourceError
from cellgate.export.exportable import prepare
from cellgate.export.torchscript import export_torchscript, load_torchscript

TOKENS, E, H = 40, 4, 6


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, E, max_norm=0.5)
        self.rnn, self.back = nn.LSTM(E, H, batch_first=True), nn.Linear(H, E)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.back(self.rnn(self.embed(tokens))[0])  # type: ignore[no-any-return]


class Tied(Reads):
    """Reads its table as the weight of its head too."""

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.linear(self.back(self.rnn(self.embed(tokens))[0]), self.embed.weight)


class ByFunction(Reads):
    def forward(self, tokens: Tensor) -> Tensor:
        embedded = functional.embedding(tokens, self.back.weight.t(), max_norm=0.5)
        return self.back(self.rnn(embedded)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Reads, Tied])
def test_graph_and_torchscript_give_what_the_module_gives_for_tokens_that_nobody_has_read(
    exported: Any, kind: type[Reads]
) -> None:
    module = kind().eval()
    if kind is Tied:
        module.embed(torch.arange(TOKENS))
    before = copy.deepcopy(module.state_dict())

    graph = exported(module)

    tokens = torch.randperm(TOKENS).view(2, TOKENS // 2)
    assert all(torch.equal(module.state_dict()[name], was) for name, was in before.items())
    feeds = [tokens.numpy(), np.full(2, TOKENS // 2, np.int32), *[np.zeros((1, 2, H), np.float32)] * 2]
    scripted = load_torchscript(export_torchscript(graph.exportable).content)
    with torch.no_grad():
        expected = module(tokens)
        assert torch.allclose(scripted(tokens), expected, atol=2e-6)
    assert float(np.abs(graph.run(*feeds)[0] - expected.numpy()).max()) < 2e-6


class OneStep(nn.Module):
    """Takes a token and its state, and may read its table as the weight of its head too."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embed, self.cell = nn.Embedding(TOKENS, E, max_norm=0.5), nn.GRUCell(E, E)
        self.tied = tied

    def forward(self, token: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.cell(self.embed(token), hidden)
        return functional.linear(hidden, self.embed.weight) if self.tied else hidden * 2.0, hidden


@pytest.mark.parametrize("module", [Tied(), OneStep(tied=True)], ids=["whole", "one-step"])
def test_table_that_is_read_elsewhere_too_is_refused_with_what_scales_it(module: nn.Module) -> None:
    with pytest.raises(SourceError, match=r"the weight of embed elsewhere too.*net\.embed\(torch\.arange\("):
        prepare(module)


def test_table_of_a_module_of_one_step_is_scaled() -> None:
    module = OneStep(tied=False)
    hidden, tokens = torch.zeros(1, E), torch.arange(TOKENS).unsqueeze(0)
    with torch.no_grad():
        y, _ = prepare(module).network(tokens)
        for step, token in enumerate(tokens.unbind(1)):
            expected, hidden = module(token, hidden)
            assert torch.allclose(y[:, step], expected, atol=2e-6)


def test_table_that_a_function_rescales_is_refused_with_its_place() -> None:
    with pytest.raises(SourceError, match=r"max_norm of functional\.embedding at test_renormed_tables\.py:\d+"):
        prepare(ByFunction())
    assert functional.embedding(torch.zeros(1, dtype=torch.int64), torch.ones(1, 2), max_norm=1.0).norm() < 1.001
