"""Plain numbers that Python makes of sizes stay free in a graph."""

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.graph.free_length import numbers_left_free

I, H = 4, 6


class Halves(nn.Module):
    """Answers with a mean over its second half, whose beginning Python rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        steps = int(x.size(1)) + int("0")
        return self.rnn(x)[0][:, int(steps * 0.5) :].mean(1)  # type: ignore[no-any-return]


def test_int_of_a_size_stays_free(exported: Any) -> None:
    module = Halves().eval()

    graph = exported(module)

    for steps in (1, 2, 5, 12, 31):
        x = torch.randn(2, steps, I)
        found = graph.run(x.numpy(), torch.zeros(1, 2, H).numpy())[0]
        with torch.no_grad():
            assert abs(found - module(x).numpy()).max() < 2e-6


@pytest.fixture
def file_of() -> Iterator[Callable[[str], ModuleType]]:
    """Return a function from code to the module of a file with it."""
    name = "file_of_a_test"

    def make(code: str) -> ModuleType:
        sys.modules[name] = made = ModuleType(name)
        exec(f"from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        {code}", vars(made))
        return made

    yield make
    sys.modules.pop(name, None)


def test_int_is_put_in_place_where_code_only_calls_it(file_of: Callable[[str], ModuleType]) -> None:
    file = file_of("return [int(y) for y in x]")

    with numbers_left_free(file.Net()):
        assert file.int("11", 2) + file.int(torch.tensor(3)) + file.int() == 6
    assert "int" not in vars(file)


@pytest.mark.parametrize("code", ["return x.to(dtype=int)", "return [y for y in x if isinstance(int(y), int)]"])
def test_int_stays_pythons_own_where_code_hands_it_on(file_of: Callable[[str], ModuleType], code: str) -> None:
    file = file_of(code)

    with numbers_left_free(file.Net()):
        assert "int" not in vars(file)
