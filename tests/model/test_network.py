"""The whole network against the float64 reference: fronts, stacks, heads, carried state, description."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.model import CellError, GRUCell, LSTMCell, SequenceModel
from cellgate.model.network import CELLS, StateTensor
from cellgate.model.reads import READS

_OPTIONS = {"ProjectedLSTMCell": {"projection_dim": 2}, "LayerNormLSTMCell": {"epsilon": 1e-3}}


def _random_state(network: SequenceModel, B: int) -> list[Tensor]:
    tensors = [torch.randn(s.rows, B, s.width, dtype=torch.float64) for s in network.state_tensors()]
    if network.reads in {"mean", "max"}:
        tensors[-1] = torch.arange(B, dtype=torch.float64).reshape(1, B, 1)  # none seen in row 0
    return tensors


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_network_computes_what_the_reference_does(cell, bidirectional, reads, distance_to_reference):
    network = SequenceModel(
        3,
        [5, 4],
        2,
        cell=cell,
        num_layers=2,
        bidirectional=bidirectional,
        reads=reads,
        **_OPTIONS.get(cell, {}),
    )
    network.double().eval()
    x, lengths = torch.randn(4, 8, 3, dtype=torch.float64), torch.tensor([8, 1, 5, 8])

    assert distance_to_reference(network, x, lengths, _random_state(network, 4)) <= 1e-11
    assert distance_to_reference(network, x) <= 1e-11


@pytest.mark.parametrize(
    "options",
    [
        {"bias": False},
        {"gate_activation": "hard_sigmoid", "cell_activation": "softsign", "output_activation": "relu"},
        {"gate_activation": "softsign", "cell_activation": "relu", "output_activation": "sigmoid"},
    ],
)
def test_options_of_the_lstm_cell_are_those_of_the_reference(options, distance_to_reference):
    network = SequenceModel(3, 5, **options).double()

    assert distance_to_reference(network, torch.randn(2, 6, 3, dtype=torch.float64)) <= 1e-13


@pytest.mark.parametrize("cell", ["PeepholeLSTMCell", "CoupledLSTMCell", "ProjectedLSTMCell", "GRUCell"])
def test_cells_without_bias_are_those_of_the_reference(cell, distance_to_reference):
    network = SequenceModel(3, 5, cell=cell, bias=False, **_OPTIONS.get(cell, {})).double()

    assert distance_to_reference(network, torch.randn(2, 6, 3, dtype=torch.float64)) <= 1e-13


def test_linear_front_is_that_of_the_reference(distance_to_reference):
    network = SequenceModel(3, 5, 2, front="linear", front_dim=7).double()

    assert distance_to_reference(network, torch.randn(2, 6, 3, dtype=torch.float64)) <= 1e-13


def test_embedding_front_takes_tokens_and_is_that_of_the_reference(distance_to_reference):
    network = SequenceModel(11, 5, 2, front="embedding", front_dim=4, reads="last_step").double()

    assert network.takes_tokens
    assert distance_to_reference(network, torch.randint(0, 11, (3, 6)), torch.tensor([6, 2, 1])) <= 1e-13


@pytest.mark.parametrize("reads", READS)
@torch.no_grad()
def test_chunks_of_unequal_length_with_carried_state_are_the_whole(reads):
    network = SequenceModel(3, 5, 2, num_layers=2, reads=reads).double().eval()
    x, lengths = torch.randn(3, 12, 3, dtype=torch.float64), torch.tensor([12, 7, 9])
    cuts = torch.tensor([5, 3, 8])

    first = torch.where((torch.arange(8) < cuts[:, None])[..., None], x[:, :8], torch.nan)
    rest = torch.stack(
        [torch.cat([row[cut:], torch.full((int(cut), 3), torch.nan)]) for row, cut in zip(x, cuts, strict=True)]
    )
    _, state = network(first, cuts)
    y, last = network(rest, lengths - cuts, state)

    whole, whole_last = network(x, lengths)
    for a, b in zip(last, whole_last, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    if reads == "every_step":
        whole = torch.stack(
            [torch.cat([row[cut:], torch.zeros(int(cut), 2)]) for row, cut in zip(whole, cuts, strict=True)]
        )
    torch.testing.assert_close(y, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("reads", READS)
@torch.no_grad()
def test_scripted_network_is_the_eager_one_bit_for_bit_at_every_shape(reads):
    network = SequenceModel(3, [5, 4], 2, bidirectional=True, reads=reads).eval()
    scripted = torch.jit.script(network)

    for B, T in [(2, 5), (1, 1), (4, 9)]:
        x, lengths = torch.randn(B, T, 3), torch.arange(B) % T + 1
        y, state = network(x, lengths)
        again, state_again = scripted(x, lengths)
        assert all(torch.equal(a, b) for a, b in zip([again, *state_again], [y, *state], strict=True))
        assert torch.equal(scripted(x, None, state)[0], network(x, None, state)[0])


@torch.no_grad()
def test_scripted_token_network_is_the_eager_one():
    network = SequenceModel(11, 5, 2, cell="GRUCell", front="embedding", front_dim=4, reads="last_step").eval()
    tokens = torch.randint(0, 11, (2, 6))

    assert torch.equal(torch.jit.script(network)(tokens)[0], network(tokens)[0])


def test_state_is_listed_in_the_order_in_which_it_is_taken():
    network = SequenceModel(3, [5, 4], cell="ProjectedLSTMCell", projection_dim=2, bidirectional=True, reads="mean")

    assert network.state_tensors() == (
        StateTensor(name="h", rows=2, width=2),
        StateTensor(name="c", rows=2, width=5),
        StateTensor(name="h", rows=2, width=2, suffix="_1"),
        StateTensor(name="c", rows=2, width=4, suffix="_1"),
        StateTensor(name="pool", rows=1, width=4),
        StateTensor(name="count", rows=1, width=1),
    )
    assert [tuple(t.shape) for t in network.zero_state(torch.zeros(7, 2, 3))] == [
        (s.rows, 7, s.width) for s in network.state_tensors()
    ]


def test_network_without_head_gives_the_stacks_output():
    network = SequenceModel(3, 5, bidirectional=True)

    assert network.output_dim == 10
    assert network(torch.zeros(2, 4, 3))[0].shape == (2, 4, 10)


def test_dropout_acts_between_stacks_while_training_only():
    network = SequenceModel(3, [16, 16], dropout=0.5)
    x = torch.randn(2, 5, 3)

    assert not torch.equal(network(x)[0], network(x)[0])
    network.eval()
    assert torch.equal(network(x)[0], network(x)[0])


def test_gradients_reach_every_weight():
    network = SequenceModel(3, [5, 4], 2, num_layers=2, bidirectional=True, front="linear", front_dim=3, reads="max")

    network(torch.randn(4, 6, 3), torch.tensor([6, 3, 1, 5]))[0].sum().backward()

    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())


@torch.no_grad()
def test_gates_of_every_layer_and_direction_are_recorded():
    network = SequenceModel(3, [5, 4], 2, num_layers=2, bidirectional=True).double().eval()
    x, lengths = torch.randn(2, 6, 3, dtype=torch.float64), torch.tensor([6, 4])

    records = network.gate_activations(x, lengths)

    assert [tuple(record["forget"].shape) for record in records] == [(2, 6, 5)] * 4 + [(2, 6, 4)] * 4
    last = torch.cat([record["output"] * record["cell"].tanh() for record in records[-2:]], 2)
    real = (torch.arange(6) < lengths[:, None]).unsqueeze(2)
    torch.testing.assert_close(network.head(last) * real, network(x, lengths)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "network",
    [
        lambda: SequenceModel(3, 5),
        lambda: SequenceModel(3, [5, 4], 2, cell="GRUCell", num_layers=2, bidirectional=True, dropout=0.25),
        lambda: SequenceModel(9, 5, 2, front="embedding", front_dim=4, reads="max", cell=LSTMCell, bias=False),
        lambda: SequenceModel(9, 5, 2, front="linear", front_dim=4, cell="ProjectedLSTMCell", projection_dim=2),
    ],
)
def test_description_and_network_are_inverse(network):
    described = network().describe()

    again = SequenceModel.from_description(json.loads(json.dumps(described)))

    assert again.describe() == described
    assert {name: w.shape for name, w in again.state_dict().items()} == {
        name: w.shape for name, w in network().state_dict().items()
    }


class _OwnGRU(GRUCell):
    pass


def _make_gru(input_dim: int, hidden_dim: int) -> GRUCell:
    return GRUCell(input_dim, hidden_dim)


_OwnGRU.__qualname__ = "GRUCell"  # a name of this house on another cell


@pytest.mark.parametrize(
    ("cell", "name"),
    [(_OwnGRU, f"{__name__}.GRUCell"), (_make_gru, f"{__name__}._make_gru"), (GRUCell, "GRUCell")],
)
def test_cell_of_ones_own_is_described_by_its_full_name(cell, name):
    assert SequenceModel(3, 5, cell=cell).describe()["cell"] == name


def test_description_of_an_unknown_cell_asks_for_the_factory():
    described = SequenceModel(3, 5, cell=_OwnGRU).describe()

    with pytest.raises(ValueError, match="a network with a cell of your own needs its factory"):
        SequenceModel.from_description(described)


@pytest.mark.parametrize("change", [{"colour": "red"}, {"input_dim": "three"}], ids=["unknown", "wrong type"])
def test_description_that_does_not_fit_is_refused(change):
    with pytest.raises(ValueError, match="does not fit"):
        SequenceModel.from_description(SequenceModel(3, 5).describe() | change)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((3, 5), {"reads": "median"}, "reads is 'median', expected one of every_step, last_step, mean, max"),
        ((3, 5), {"cell": "RNNCell"}, "cell is 'RNNCell', expected one of LSTMCell"),
        ((3, 5), {"front": "conv", "front_dim": 3}, "front is 'conv', expected None, 'linear' or 'embedding'"),
        ((3, 5), {"front": "linear"}, "front_dim is missing"),
        ((3, []), {}, "expected at least 1"),
        ((0, 5), {}, "input_dim, hidden_dim, output_dim are 0, 5, None, expected at least 1"),
        ((3, [5, 0], 2), {}, "expected at least 1"),
        ((3, 5, 0), {}, "expected at least 1"),
    ],
)
def test_choice_that_does_not_exist_is_refused(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        SequenceModel(*arguments, **options)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda n: SequenceModel(n(3), n(4), n(2), num_layers=n(2), front="linear", front_dim=n(5)), id="numbers"
        ),
        pytest.param(lambda n: SequenceModel(n(3), [n(4), n(5)]), id="list-of-widths"),
        pytest.param(
            lambda n: SequenceModel(n(3), n(4), cell="ProjectedLSTMCell", projection_dim=n(2)), id="option-of-the-cell"
        ),
    ],
)
def test_integers_of_numpy_make_the_network_of_plain_ones(make):
    network = make(np.int64)

    assert json.dumps(network.describe()) == json.dumps(make(int).describe())
    assert torch.jit.script(network)(torch.zeros(2, 3, 3))[0].shape[:2] == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((3.0, 5), {}, "input_dim is 3.0, expected a whole number"),
        ((3, 5.5), {}, "hidden_dim is 5.5, expected a whole number"),
        ((3, [5, "6"]), {}, "hidden_dim is '6', expected a whole number"),
        ((3, "5"), {}, "hidden_dim is '5', expected a whole number"),
        ((3, 5, 2.0), {}, "output_dim is 2.0, expected a whole number"),
        ((3, 5), {"num_layers": 2.0}, "num_layers is 2.0, expected a whole number"),
        ((3, 5), {"front": "linear", "front_dim": 2.0}, "front_dim is 2.0, expected a whole number"),
    ],
)
def test_number_that_is_not_whole_is_refused(arguments, options, said):
    with pytest.raises(TypeError, match=said):
        SequenceModel(*arguments, **options)


def test_cell_that_keeps_no_protocol_is_refused():
    with pytest.raises(CellError):
        SequenceModel(3, 5, cell=nn.Linear)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([(1, 2, 5)] * 2, "state has 2 tensors, expected 4"),
        ([(1, 2, 5)] * 2 + [(1, 1, 5), (1, 2, 1)], r"state tensor 2 is \[1, 1, 5\], expected \[1, 2, 5\]"),
    ],
)
def test_state_of_another_shape_is_refused(shapes, said):
    network = SequenceModel(3, 5, reads="mean")

    with pytest.raises(ValueError, match=said):
        network(torch.zeros(2, 4, 3), None, [torch.zeros(shape) for shape in shapes])
