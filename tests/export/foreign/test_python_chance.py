"""Chance that Python or NumPy decides in a forward: refused where it changes the answer, also where two runs agree."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.python_chance import draws_by_chance

from .foreign_modules import H, I, make


def teacher_forced(self: Any, x: Tensor, teacher_forcing_ratio: float = 0.5) -> Tensor:
    y = self.rnn(x)[0]
    return y + 1.0 if random.random() < teacher_forcing_ratio else y


def by_numpy(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return y + 1.0 if np.random.rand() < 0.5 else y  # noqa: NPY002 - as strangers write it


def only_in_training(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return y + 1.0 if self.training and random.random() < 0.5 else y


def drawn_and_not_used(self: Any, x: Tensor) -> Tensor:
    forced = random.random() < 0.5
    return self.rnn(x)[0] * (1.0 if forced else 1)


@pytest.mark.parametrize("forward", [teacher_forced, by_numpy])
@pytest.mark.parametrize("seed", range(3))
def test_choice_that_python_draws_is_refused_whatever_it_drew(forward: Callable[..., Any], seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002

    with pytest.raises(SignatureError, match=r"gives another output each time .* wait for if self.training"):
        prepare(make(forward))


@pytest.mark.parametrize("forward", [only_in_training, drawn_and_not_used])
def test_draw_that_changes_nothing_in_evaluation_is_exported(exported: Any, forward: Callable[..., Any]) -> None:
    assert exported(make(forward)).largest_difference() < 2e-6


class Forced(nn.Module):
    """A loop of its own that is forced by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        h, seen = x.new_zeros(x.size(0), H), []
        for step in x.unbind(1):
            h = self.cell(step, h * 0.5 if random.random() < 0.5 else h)
            seen.append(h)
        return torch.stack(seen, 1)


def test_loop_that_draws_is_told_as_that() -> None:
    with pytest.raises(SignatureError, match=r"Forced.forward gives another output each time"):
        prepare(Forced())


def test_generators_are_left_as_they_were() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002

    assert draws_by_chance(lambda: torch.tensor(random.random() + np.random.rand()))  # noqa: NPY002

    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_run_without_python_chance_runs_once() -> None:
    runs: list[int] = []

    assert not draws_by_chance(lambda: torch.tensor(float(len(runs) + (runs.append(1) or 0))))
    assert len(runs) == 1
