"""Code that asks torch whether it is compiled is exported as it runs; its TorchScript only where it agrees."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from cellgate.export.graph.eager_answers import answered_as_eager
from cellgate.export.torchscript import export_torchscript
from cellgate.model import SequenceModel

I, H = 4, 6


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return y * 2  # type: ignore[no-any-return]
        return y  # type: ignore[no-any-return]


class Loop(nn.Module):
    """Asks in its loop, by a name of its own file."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            seen.append(h * 2 if is_compiling() else h)
        return torch.stack(seen, 1)


class Asking(nn.Module):
    """A cell, which becomes the body of a Scan."""

    def __init__(self, input_dim: int = I, hidden_dim: int = H) -> None:
        super().__init__()
        self.state_spec = (("h", hidden_dim),)
        self.joint = nn.Linear(input_dim + hidden_dim, hidden_dim)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.joint(torch.cat([x, h], 1)))
        if torch.compiler.is_compiling():
            h = h * 2
        if is_compiling():
            h = h * 3
        return h, h


class LoopOverACell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Asking()

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, seen = torch.zeros(x.size(0), H) if h is None else h, []
        for t in range(x.size(1)):
            y, h = self.cell(x[:, t], h)
            seen.append(y)
        return torch.stack(seen, 1), h


class AroundALoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = LoopOverACell()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]  # type: ignore[no-any-return]


class Script(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        if torch.jit.is_scripting():
            return y * 2  # type: ignore[no-any-return]
        return y  # type: ignore[no-any-return]


class ScriptAgrees(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        if torch.jit.is_scripting():
            return y + y - y  # type: ignore[no-any-return]
        return y  # type: ignore[no-any-return]


def assert_graph_is_as_it_runs(graph: Any, module: nn.Module) -> None:
    x, lengths = torch.randn(3, 8, I), torch.tensor([8, 5, 1], dtype=torch.int32)
    y = graph.run(x.numpy(), lengths.numpy(), np.zeros((1, 3, H), np.float32))[0]
    for row, count in enumerate(lengths.tolist()):
        with torch.no_grad():
            expected = module.eval()(x[row : row + 1, :count])[0].numpy()
        assert float(np.abs(y[row, :count] - expected).max()) < 2e-6


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "module", [Layers(), Loop(), AroundALoop()], ids=["around-a-layer", "in-a-loop", "in-the-body-of-a-scan"]
)
def test_graph_goes_the_way_that_eager_code_goes(exported: Any, module: nn.Module) -> None:
    assert_graph_is_as_it_runs(exported(module), module)


def test_cell_of_ones_own_is_told_what_it_is_told_eagerly(exported: Any) -> None:
    assert exported(SequenceModel(I, H, 3, cell=Asking)).largest_difference() < 2e-6


def test_torch_itself_is_told_the_truth_and_everybody_is_afterwards() -> None:
    asked_before, torchs_own = torch.compiler.is_compiling, torch._utils.is_compiling
    told = {}

    class Asks(Layers):
        def forward(self, x: Tensor) -> Tensor:
            with answered_as_eager(self):
                told["code"] = (torch.compiler.is_compiling(), is_compiling())
                told["torch"] = torch.nn.functional.torch.compiler._is_compiling_flag
            told["afterwards"] = (torch.compiler.is_compiling(), is_compiling())
            return x

    torch.export.export(Asks(), (torch.randn(2, 3, I),), strict=False)

    assert told == {"code": (False, False), "torch": True, "afterwards": (True, True)}
    assert torch.compiler.is_compiling is asked_before
    assert torch._utils.is_compiling is torchs_own


def test_torchscript_that_goes_a_way_of_its_own_is_left_out_and_the_graph_is_as_it_runs(exported: Any) -> None:
    module = Script()

    graph = exported(module)

    scripted = export_torchscript(graph.exportable)
    assert scripted.module is None
    assert scripted.content == b""
    assert "something else where torch.jit.is_scripting()" in scripted.reason
    assert_graph_is_as_it_runs(graph, module)


def test_torchscript_that_asks_and_gives_the_same_is_kept(exported: Any) -> None:
    scripted = export_torchscript(exported(ScriptAgrees()).exportable)

    assert scripted.reason == ""
    assert scripted.content
