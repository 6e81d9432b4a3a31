"""Modules that take one step a call: their graph gives what the module gives, called by hand step after step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import prepare
from cellgate.export.torchscript import export_torchscript
from cellgate.model import LSTMCell

from .one_step_calls import (
    Step,
    alone,
    by_hand,
    cell_first,
    delayed,
    four,
    in_dict,
    layers,
    new_names,
    one_state,
    pair,
    pair_alone,
    pair_in_dict,
    pair_of_layers,
    pairs,
    row_by_row,
    rows_first,
    stacked,
)
from .stepped_modules import (
    CellBeforeHidden,
    Clipped,
    DelayLine,
    DictOfTensors,
    FourStates,
    H,
    I,
    InDict,
    Joined,
    LayersInOneTensor,
    ListOfPairs,
    NamesFloat32,
    NewNames,
    O,
    PairInDict,
    PairInHead,
    PolicyWithResets,
    ReadsItsState,
    SideBySide,
    StackedPair,
    StateAlone,
    Words,
    WordsOfOneRow,
)

pytestmark = pytest.mark.long


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("make", "call", "states", "operators"),
    [
        pytest.param(Joined, one_state, ["h0"], {"Scan": 1}, id="input-and-hidden-joined"),
        pytest.param(PairInHead, pair, ["h0", "c0"], {"LSTM": 1}, id="cell-with-head"),
        pytest.param(FourStates, four, ["h0", "c0", "h0_1", "c0_1"], {"LSTM": 2}, id="four-states"),
        pytest.param(Words, layers, ["h0"], {"GRU": 2}, id="tokens-two-layers"),
        pytest.param(WordsOfOneRow, row_by_row, ["h0"], {"GRU": 1}, id="tokens-of-one-row"),
        pytest.param(ReadsItsState, pair_of_layers, ["h0", "c0"], {"Scan": 1}, id="layer-that-reads-the-state"),
        pytest.param(CellBeforeHidden, cell_first, ["h0", "c0"], {"LSTM": 1}, id="cell-before-hidden"),
        pytest.param(DelayLine, delayed, ["h0"], {"Scan": 1}, id="delay-line"),
        pytest.param(ListOfPairs, pairs, ["h0", "c0", "h0_1", "c0_1"], {"LSTM": 2}, id="list-of-pairs"),
        pytest.param(StateAlone, alone, ["h0"], {"Scan": 1}, id="state-alone"),
        pytest.param(NewNames, new_names, ["h0", "c0"], {"LSTM": 1}, id="states-under-new-names"),
        pytest.param(Clipped, pair_of_layers, ["h0", "c0"], {"Scan": 1}, id="layer-with-clipped-state"),
        pytest.param(NamesFloat32, one_state, ["h0"], {"GRU": 1}, id="names-float32"),
        pytest.param(InDict, in_dict, ["h0"], {"GRU": 1}, id="dict"),
        pytest.param(PairInDict, pair_in_dict, ["h0", "c0"], {"LSTM": 1}, id="pair-in-dict"),
        pytest.param(StackedPair, stacked, ["h0", "c0"], {"LSTM": 1}, id="pair-in-one-tensor"),
        pytest.param(LayersInOneTensor, stacked, ["h0", "c0"], {"LSTM": 2}, id="layers-in-one-tensor"),
        pytest.param(SideBySide, one_state, ["h0"], {"Scan": 1}, id="states-side-by-side"),
        pytest.param(PolicyWithResets, rows_first, ["h0"], {"Scan": 1}, id="rows-first-and-reset"),
        pytest.param(lambda: LSTMCell(I, H), pair, ["h0", "c0"], {"LSTM": 1}, id="the-tutorials-cell"),
        pytest.param(lambda: nn.LSTMCell(I, H), pair_alone, ["h0", "c0"], {"LSTM": 1}, id="torchs-cell"),
    ],
)
def test_a_module_of_one_step_becomes_a_graph_of_any_number(
    exported: Any,
    prepared: Any,
    make: Callable[[], nn.Module],
    call: Callable[..., Step],
    states: list[str],
    operators: dict[str, int],
) -> None:
    module, exportable = prepared(make)

    graph = exported(exportable)

    assert graph.inputs[2:] == states
    assert graph.inputs[1] == "lengths"
    assert operators.items() <= graph.operators.items()
    for rows, steps in ((1, 1), (4, 9), (2, 30)):
        x, _, *state = graph.exportable.example(rows, steps)
        full = np.full(rows, steps, dtype=np.int32)
        for size in (1.0, 0.0, 20.0):
            given = [tensor * size for tensor in state]
            found = graph.run(x.numpy(), full, *(tensor.numpy() for tensor in given))
            expected = by_hand(call(module), x, given)
            assert [a.shape for a in found] == [b.shape for b in expected]
            for a, b in zip(found, expected, strict=True):
                assert float(np.abs(a - b).max()) < 5e-6 * max(1.0, float(np.abs(b).max()))


@pytest.mark.no_cover
def test_a_counter_of_whole_numbers_is_a_state_of_its_own_width() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(I, H)

        def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            h, t = state
            h = self.cell(x, h) * torch.exp(-0.01 * t.float())
            return h.tanh(), (h, t + 1)

        def init_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
            return torch.zeros(batch_size, H), torch.zeros(batch_size, 1, dtype=torch.int64)

    exportable = prepare(Counts())

    assert [tensor.width for tensor in exportable.network.state_tensors()] == [H, 1]
    assert exportable.network(torch.zeros(2, 7, I))[1][1].flatten().tolist() == [7.0, 7.0]


def test_what_was_done_is_said(prepared: Any) -> None:
    _, exportable = prepared(Words)

    exchanged = [(entry.path, f"{entry.was}: {entry.proof}") for entry in exportable.exchanges]

    assert exchanged == [
        (
            "(itself)",
            "forward takes one step: put in a loop over time, proved equal to it called step after step",
        ),
        ("rnn", "nn.GRU: weights and probes equal"),
    ]


def test_which_state_is_which_is_said_where_the_order_is_another(prepared: Any) -> None:
    _, exportable = prepared(CellBeforeHidden)

    assert exportable.exchanges[0].proof.endswith("; h0 is h, c0 is c")
    assert exportable.network.left_out == ("3",)


def test_another_of_the_tensors_that_a_step_gives_back_may_be_the_answer() -> None:
    module = CellBeforeHidden()
    exportable = prepare(module, answer="3")
    x = torch.randn(2, 5, I)
    y, _ = exportable.network(x)

    h = c = torch.zeros(2, H)
    for step in range(5):
        _, c, h, weights = module(x[:, step], c, h)
        torch.testing.assert_close(y[:, step], weights)
    assert exportable.network.left_out == ("0",)


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start, self.cell = nn.Parameter(torch.ones(H)), nn.GRUCell(I, H)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.cell(x, hidden)
        return hidden, hidden

    def begin_state(self, batch_size: int) -> Tensor:
        return self.start.expand(batch_size, -1)


def test_a_first_state_that_is_learned_is_to_be_sent() -> None:
    said = prepare(Learned()).exchanges[0].proof

    assert said.endswith("it starts from zeros, and begin_state gives something else: send that as the first state")


class LearnedInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start, self.cell = nn.Parameter(torch.ones(H)), nn.GRUCell(I, H)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = self.cell(x, self.start.expand(x.size(0), -1) if hidden is None else hidden)
        return hidden.tanh(), hidden


def test_a_first_state_that_forward_makes_for_itself_is_to_be_sent() -> None:
    said = prepare(LearnedInside()).exchanges[0].proof

    assert said.endswith(
        "it starts from zeros, and forward without hidden from something else: send that as the first state"
    )


@pytest.mark.parametrize(
    "make",
    [Joined, PairInHead, FourStates, Words, WordsOfOneRow, CellBeforeHidden, DictOfTensors],
    ids=lambda make: make.__name__,
)
def test_torchscript_is_the_module_in_a_compiled_loop(prepared: Any, make: Callable[[], nn.Module]) -> None:
    _, exportable = prepared(make)

    scripted = export_torchscript(exportable)

    assert scripted.reason == ""
    assert scripted.module is not None
    x = exportable.example(1, 8)[0]
    with torch.no_grad():
        assert torch.allclose(scripted.module(x), exportable.network(x)[0], atol=1e-6)


def test_states_that_names_do_not_tell_are_told() -> None:
    class Told(PairInHead):
        def forward(self, first: Tensor, second: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            h, c = self.cell(z, (first, second))
            return self.head(h), h, c

    exportable = prepare(Told(), told={"sequence": "z", "state": "first,second"})

    assert [spec.shape for spec in exportable.signature.inputs] == [
        ("B", "T", I),
        ("B",),
        (1, "B", H),
        (1, "B", H),
    ]
    assert exportable.signature.outputs[0].shape == ("B", "T", O)


def test_a_width_that_layers_do_not_tell_is_told() -> None:
    class OneHot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(12, H)

        def forward(self, token: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.cell(torch.nn.functional.one_hot(token, 12).to(hidden.dtype), hidden)
            return hidden, hidden

    assert prepare(OneHot(), input_dim=12).signature.vocabulary_size == 12
