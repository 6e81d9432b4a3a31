"""Loops over time that people write in a module's own forward: rolled up, proved, and right for any length."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import prepare

from .looped_modules import (
    ByColumns,
    Classifier,
    H,
    I,
    KeptInSelf,
    LastTwo,
    LearnedOrGiven,
    Normed,
    SaidWordFedBack,
    ThreeStates,
    TokensInTheLoop,
    TruthsCounted,
    TwoCells,
    WithoutOutputGate,
    Written,
    scaled,
)
from .several_loops import (
    Blocks,
    BothWays,
    DeepBothWays,
    FirstOfTheHead,
    Layered,
    MatricesTimeFirst,
    Normaliser,
    NormedBetween,
)
from .slotted_loops import (
    Filled,
    LayersInPlace,
    Slots,
    SlotsBackwards,
    SlotsInAList,
    SlotsOfAPair,
    SlotsTimeFirst,
)

pytestmark = pytest.mark.long


def sequence(exportable: Any, rows: int, steps: int) -> Tensor:
    if exportable.signature.vocabulary_size:
        return torch.randint(0, exportable.signature.vocabulary_size, (rows, steps))
    return torch.randn(rows, steps, exportable.signature.inputs[0].shape[-1])


def first(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result[0]


@pytest.mark.covering("blocks", "slots-time-first")
@pytest.mark.parametrize(
    ("make", "operators", "time_first"),
    [
        pytest.param(Written, ["Scan"], False, id="one-matrix"),
        pytest.param(Classifier, ["Scan"], False, id="tokens-last-step"),
        pytest.param(TwoCells, ["LSTM", "LSTM"], False, id="two-cells"),
        pytest.param(WithoutOutputGate, ["Scan"], False, id="without-output-gate"),
        pytest.param(LastTwo, ["Scan"], False, id="last-two-states"),
        pytest.param(Filled, ["Scan"], True, id="filled-in-place"),
        pytest.param(BothWays, ["GRU", "GRU"], False, id="both-directions"),
        pytest.param(DeepBothWays, ["GRU", "GRU", "LSTM", "GRU"], False, id="deep-both-ways"),
        pytest.param(NormedBetween, ["GRU", "GRU"], False, id="normed-between"),
        pytest.param(SaidWordFedBack, ["Scan"], False, id="integers-carried"),
        pytest.param(TruthsCounted, ["Scan", "Scan"], False, id="truth-values-read-alone"),
        pytest.param(Normaliser, ["Scan"], False, id="read-by-the-next-alone"),
        pytest.param(Layered, ["Scan", "Scan"], False, id="stacked-states"),
        pytest.param(KeptInSelf, ["Scan"], False, id="learned-start"),
        pytest.param(ByColumns, ["Scan"], False, id="batch-last"),
        pytest.param(LearnedOrGiven, ["LSTM"], False, id="learned-start-or-given"),
        pytest.param(Blocks, ["Scan", "Scan"], False, id="blocks"),
        pytest.param(MatricesTimeFirst, ["Scan", "Scan"], False, id="layer-after-layer"),
        pytest.param(FirstOfTheHead, ["GRU"], False, id="first-step-of-a-head"),
        pytest.param(Normed, ["Scan"], False, id="normed-product"),
        pytest.param(Slots, ["LSTM"], False, id="slots"),
        pytest.param(SlotsTimeFirst, ["Scan"], False, id="slots-time-first"),
        pytest.param(SlotsBackwards, ["GRU", "GRU"], False, id="slots-backwards"),
        pytest.param(SlotsOfAPair, ["LSTM"], False, id="slots-of-a-pair"),
        pytest.param(LayersInPlace, ["GRU", "GRU"], False, id="layers-in-place"),
        pytest.param(SlotsInAList, ["GRU"], False, id="slots-in-a-list"),
        pytest.param(TokensInTheLoop, ["Scan"], False, id="tokens-in-the-loop"),
    ],
)
def test_loop_in_forward_becomes_layers_that_give_what_it_gives(
    prepared: Any, make: Callable[[], nn.Module], operators: list[str], time_first: bool
) -> None:
    module, exportable = prepared(make)

    assert [layer.operator for layer in exportable.layers] == operators
    for rows, steps in ((1, 1), (2, 3), (4, 19)):
        x = sequence(exportable, rows, steps)
        with torch.no_grad():
            expected = first(module(x.transpose(0, 1) if time_first else x))
            found, _ = exportable.network(x)
        expected = expected.transpose(0, 1) if time_first else expected
        assert expected.shape == found.shape
        assert float((expected - found).abs().max()) < 2e-6


def test_rolled_network_exports_with_lengths_and_state_and_streams(exported: Any, prepared: Any) -> None:
    module, exportable = prepared(Classifier)

    graph = exported(exportable)

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


def test_slots_that_begin_with_what_was_learned_are_exported(exported: Any, prepared: Any) -> None:
    _, exportable = prepared(SlotsTimeFirst)

    graph = exported(exportable)

    assert graph.operators["Scan"] == 1
    assert graph.largest_difference() < 2e-6


def test_two_cells_and_a_head_in_one_loop_are_fused_operators(exported: Any, prepared: Any) -> None:
    _, exportable = prepared(TwoCells)

    graph = exported(exportable)

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


def test_state_starts_from_what_the_module_starts_from(prepared: Any) -> None:
    network = prepared(KeptInSelf)[1].network

    assert network.carries_state is False
    assert not network.honours_lengths  # the mean is over all steps


def test_state_is_carried_and_not_what_is_made_of_it(prepared: Any) -> None:
    network = prepared(Normed)[1].network

    assert network.carries_state  # norm(U @ h + b) is not zero where h is; a loop that carried it could not be streamed
    assert [(tensor.name, tensor.width) for tensor in network.stacks[0]] == [("h", H), ("c", H)]


def test_three_states_have_names_that_can_be_told_apart() -> None:
    assert [pair.input for pair in prepare(ThreeStates()).signature.state] == ["h0", "c0", "d0"]


def test_loops_one_after_the_other_stream_as_one(prepared: Any) -> None:
    assert prepared(Blocks)[1].network.carries_state
    assert prepared(NormedBetween)[1].network.carries_state


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
