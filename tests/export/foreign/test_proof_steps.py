"""Numbers of steps that a module's own code names are tried, so that what it does beyond them is not missed."""

import torch
from torch import Tensor, nn

from cellgate.export.foreign.proof_steps import longest_table, proof_steps

LONGEST = 77


def cut(x: Tensor) -> Tensor:
    return x[:, :LONGEST]


class Named(nn.Module):
    """Names numbers in every place where code can."""

    window = 61

    def __init__(self) -> None:
        super().__init__()
        self.context = 90
        self.positions = nn.Embedding(512, 4)
        self.rnn = nn.LSTM(4, 333, batch_first=True)
        self.given = lambda x: x[:, :405]

    def forward(self, x: Tensor) -> Tensor:
        x = cut(self.given(x))
        return max((x[:, :t] for t in range(x.size(1) % 123)), default=x)


def test_numbers_in_the_code_the_class_the_module_and_its_tables_are_tried_with_their_next() -> None:
    steps = proof_steps(Named())

    assert {61, 62, 77, 78, 90, 91, 123, 124, 405, 406, 512, 513} <= set(steps)
    assert len(set(steps)) == len(steps)


def test_what_belongs_to_torch_is_not_tried() -> None:
    assert 333 not in proof_steps(Named())
    assert proof_steps(nn.LSTM(4, 333)) == proof_steps(nn.Linear(9, 9))


def test_steps_tried_for_their_names_are_bounded_in_all() -> None:
    module = nn.Sequential()
    module.__class__ = type("Many", (nn.Sequential,), {f"n{k}": 4000 + k for k in range(50)})

    assert sum(proof_steps(module)) < 20_000


def test_steps_begin_with_the_fewest_that_a_module_takes():
    usual, shifted = proof_steps(nn.Linear(9, 9)), proof_steps(nn.Linear(9, 9), 5)

    assert shifted == tuple(steps + 4 for steps in usual)
    assert min(proof_steps(Named(), 300)) == 300


def test_behind_a_front_neighbours_are_tried_that_leave_as_many_steps():
    assert {5, 6, 7, 8, 9, 10} <= set(proof_steps(nn.Linear(9, 9), 5, shortened=True))


class Keeping(nn.Module):
    """Keeps one tensor, as a buffer or a parameter."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(7000, 3)
        if isinstance(kept, nn.Parameter):
            self.kept = kept
        else:
            self.register_buffer("kept", kept)


def test_buffers_and_learned_tables_may_be_positions_and_weights_may_not() -> None:
    assert longest_table(Keeping(torch.zeros(1, 5000, 3))) == 5000
    assert longest_table(Keeping(nn.Parameter(torch.zeros(1, 2000, 3)))) == 2000
    assert longest_table(Keeping(nn.Parameter(torch.zeros(4096, 3)))) == 0
    assert longest_table(Keeping(torch.zeros(20_000, 3))) == 3


def test_as_many_steps_as_there_are_at_most_are_tried_and_no_more() -> None:
    assert max(proof_steps(Named(), most=512)) == 512
    assert proof_steps(nn.Linear(9, 9), most=100) == (7, 4, 2, 1, 40, 100)
