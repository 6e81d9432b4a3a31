"""A network made ready: its signature, its description, its own copy."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import SourceError, UnsupportedLayerError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.network import ForeignNetwork
from cellgate.export.input_width import input_candidates, input_dim_of
from cellgate.model import GRUCell, LSTMCell, LSTMLayer, RecurrentStack, SequenceModel


def test_signature_names_every_input_and_output_of_a_pooling_network() -> None:
    signature = prepare(SequenceModel(9, [4, 3], 2, front="embedding", front_dim=5, reads="mean")).signature

    assert [s.name for s in signature.inputs] == ["tokens", "lengths", "h0", "c0", "h0_1", "c0_1", "pool0", "count0"]
    assert [s.name for s in signature.outputs] == ["y", "h_n", "c_n", "h_n_1", "c_n_1", "pool_n", "count_n"]
    assert (signature.inputs[0].shape, signature.inputs[0].dtype, signature.vocabulary_size) == (("B", "T"), "int64", 9)
    assert [(pair.input, pair.output) for pair in (signature.state[0], signature.state[-1])] == [
        ("h0", "h_n"),
        ("count0", "count_n"),
    ]


@pytest.mark.parametrize(
    ("source", "states", "width"),
    [
        (RecurrentStack(GRUCell, 4, 5, num_layers=2, bidirectional=True), {"h0": (4, "B", 5)}, 10),
        (LSTMLayer(LSTMCell, 4, 5, reverse=True), {"h0": (1, "B", 5), "c0": (1, "B", 5)}, 5),
    ],
)
def test_stack_or_layer_alone_is_a_network_that_reads_every_step(
    source: nn.Module, states: dict[str, Any], width: int
) -> None:
    exportable = prepare(source)

    assert ("B", "T", width) == exportable.signature.outputs[0].shape
    assert states == {spec.name: spec.shape for spec in exportable.signature.inputs[2:]}
    assert not isinstance(exportable.network, ForeignNetwork)
    assert type(source).__name__ == exportable.description["kind"]


def test_network_of_this_house_is_copied_and_left_in_training() -> None:
    source = SequenceModel(3, 4, 2, dropout=0.1).train()

    exportable = prepare(source)

    assert source.training
    assert all(parameter.requires_grad for parameter in source.parameters())
    assert not exportable.network.training
    assert exportable.network is not source
    assert exportable.description["hidden_dim"] == [4]


@pytest.mark.parametrize(
    "head", [nn.Linear(4, 7), nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 7)), nn.Identity()], ids=type
)
def test_head_of_another_width_than_the_network_names_is_refused_with_what_to_set(head: nn.Module) -> None:
    network = SequenceModel(3, 4 if isinstance(head, nn.Linear | nn.Sequential) else 7, 2)
    network.head = head

    with pytest.raises(SourceError, match=r"head gives 7 outputs where output_dim says 2.*set network.output_dim = 7"):
        prepare(network)

    network.output_dim = 7
    assert prepare(network).signature.outputs[0].shape == ("B", "T", 7)


def test_example_is_the_same_each_time_and_ragged() -> None:
    exportable = prepare(SequenceModel(3, 4))

    first, second = exportable.example(4, 3), exportable.example(4, 3)

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert first[1].tolist() == [1, 2, 3, 1]


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(SourceError, match=r"gave a dict, expected a torch.nn.Module"):
        prepare({"weights": 1})  # type: ignore[arg-type]


def test_module_that_cannot_be_copied_is_refused() -> None:
    module = nn.LSTM(2, 3)
    module.cache = torch.ones(1, requires_grad=True) * 2

    with pytest.raises(SourceError, match="LSTM cannot be copied"):
        prepare(module)


class Joint(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.state_spec = (("h", 3),)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return h, h


@pytest.mark.parametrize(
    ("layers", "width"), [((nn.Linear(5, 9),), 2), ((nn.Linear(5, 9), nn.Linear(3, 9)), 5)], ids=["joint", "apart"]
)
def test_width_of_the_input_is_read_off_the_linear_maps(layers: tuple[nn.Module, ...], width: int) -> None:
    assert width == input_dim_of(LSTMLayer(Joint, *layers))


def test_cell_that_tells_no_width_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="Joint does not tell the width of its input"):
        input_dim_of(LSTMLayer(Joint))


def test_candidates_come_in_order_and_once() -> None:
    module = nn.Sequential(
        nn.BatchNorm1d(6), nn.Conv1d(6, 4, 1), nn.LayerNorm(4), nn.Linear(4, 2), nn.Embedding(9, 2),
        RecurrentStack(GRUCell, 8, 2),
    )  # fmt: skip

    assert input_candidates(module) == [(False, 6), (False, 4), (True, 9), (False, 8), (False, 2)]


class Own(nn.Module):
    def __init__(self, input_dim: int, hidden_dim: int, state: str = "h", **options: object) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.state_spec = ((state, hidden_dim),)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.linear(torch.cat([x, h], 1)))
        return h, h


def test_options_of_ones_own_cell_are_described_in_what_json_can_say() -> None:
    options = {"squash": torch.tanh, "kind": nn.ReLU, "limit": math.inf, "sizes": (1, np.int64(2)), "deep": {3: None}}

    described = prepare(SequenceModel(3, 4, 2, cell=Own, **options)).description["cell_options"]

    assert described == {"squash": "tanh", "kind": "ReLU", "limit": "inf", "sizes": [1, 2], "deep": {"3": None}}
    assert json.loads(json.dumps(described, allow_nan=False)) == described


def test_state_whose_name_no_graph_input_can_bear_is_refused_at_once() -> None:
    with pytest.raises(SourceError, match=r"state called 'my state', expected letters, digits, .*; rename it in"):
        prepare(SequenceModel(3, 4, 2, cell=Own, state="my state"))
