"""Modules that take a single sequence at a time: found, exported for batches, and right against the module."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellgate.export.errors import UnsupportedLayerError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.call_layout import InputLayout

from .ragged_rows import H, I, assert_right_for_ragged_rows, module_with

O = 3


class OneSequence(nn.Module):
    """Takes a single sequence and gives the layer a batch of one, as tutorials for taggers do."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(I, H, **options)
        self.head = nn.Linear(options.get("proj_size", H), O)

    def forward(self, sentence: Tensor) -> Tensor:
        y, _ = self.rnn(sentence.view(len(sentence), 1, -1))
        return functional.log_softmax(self.head(y.view(len(sentence), -1)), dim=1)


@pytest.mark.parametrize(
    ("module", "operator"),
    [
        pytest.param(OneSequence(), "LSTM", id="lstm"),
        pytest.param(OneSequence(nn.GRU), "GRU", id="gru"),
    ],
)
def test_module_for_one_sequence_serves_batches(exported: Any, module: nn.Module, operator: str) -> None:
    graph = exported(module)

    assert graph.exportable.signature.outputs[0].shape == ("B", "T", O)
    assert operator in graph.operators
    assert_right_for_ragged_rows(graph, module.eval())
    assert graph.largest_difference() < 2e-6


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported:UserWarning")  # torch's own word
@pytest.mark.parametrize(
    ("options", "found"), [({"proj_size": 2}, "as a Scan"), ({"num_layers": 2}, "2 recurrent layers")]
)
def test_module_for_one_sequence_is_refused_beyond_one_fused_layer(options: dict[str, Any], found: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=f"takes one sequence at a time and has .*{found}"):
        prepare(OneSequence(**options))


class Words(nn.Module):
    """One sequence of tokens; the state is kept in the module and overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, I)
        self.rnn = nn.GRU(I, H)
        self.head = nn.Linear(H, O)
        self.memory = torch.zeros(1, 1, H)

    def forward(self, words: Tensor) -> Tensor:
        y, self.memory = self.rnn(self.embedding(words).unsqueeze(1), self.memory)
        return self.head(y[-1])[0]


def test_state_kept_in_the_module_begins_anew_and_can_be_carried(exported: Any) -> None:
    module = Words().eval()

    def fresh(words: Tensor) -> Tensor:
        module.memory = torch.zeros(1, 1, H)
        return module(words)

    graph = exported(module)

    assert graph.inputs == ["tokens", "lengths", "h0"]
    assert graph.exportable.network.keeps == {"memory"}
    assert_right_for_ragged_rows(graph, fresh)
    words, zeros = torch.randint(11, (1, 8)), np.zeros((1, 1, H), np.float32)
    _, state = graph.run(words[:, :3].numpy(), np.array([3], np.int32), zeros)
    y, _ = graph.run(words[:, 3:].numpy(), np.array([5], np.int32), state)
    with torch.no_grad():
        expected = fresh(words[0]).numpy()
    assert float(np.abs(y[0] - expected).max()) < 2e-6


def without_batch(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0]


def without_batch_from_zeros(self: Any, x: Tensor) -> Tensor:
    zeros = torch.zeros(1, H)
    return self.rnn(x.view(len(x), I), (zeros, zeros))[0][-1]


def batch_of_one(self: Any, x: Tensor) -> Tensor:
    assert x.size(1) == 1
    return self.rnn(x)[0]


def batch_of_one_first(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x.view(x.size(1), 1, I))[0].view(1, x.size(1), H)


def answer_of_one_row(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x.view(x.size(0), 1, I))[1][0]


@pytest.mark.covering("answer-with-two-axes-of-one")
@pytest.mark.parametrize(
    ("forward", "axes", "alone"),
    [
        pytest.param(without_batch_from_zeros, "TI", lambda m, x: m(x), id="unbatched-layer-given-zeros"),
        pytest.param(batch_of_one, "T1I", lambda m, x: m(x.unsqueeze(1)), id="batch-of-one-after-time"),
        pytest.param(batch_of_one_first, "1TI", lambda m, x: m(x.unsqueeze(0)), id="batch-of-one-first"),
        pytest.param(answer_of_one_row, "TI", lambda m, x: m(x), id="answer-with-two-axes-of-one"),
    ],
)
def test_one_sequence_in_any_form_is_taken(
    exported: Any, forward: Callable[..., Any], axes: str, alone: Callable[[nn.Module, Tensor], Tensor]
) -> None:
    module = module_with(forward)

    graph = exported(module)

    assert graph.exportable.network.input_layout == InputLayout(axes)
    assert_right_for_ragged_rows(graph, lambda x: alone(module, x))
