"""The stack against torch.nn.LSTM and torch.nn.GRU: layers, directions, projection, ragged rows, dropout."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cellgate.model import (
    CellError,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    LSTMLayer,
    ProjectedLSTMCell,
    RecurrentStack,
    stack_from_torch,
)

I = 3
_KINDS = [("LSTM", 0), ("LSTM", 1), ("GRU", 0)]
_KINDS_AND_WIDTHS = [(kind, proj, H) for kind, proj in _KINDS for H in (1, 8, 13) if proj < H]
_SHAPES = list(itertools.product((1, 2, 7), (1, 2, 17)))


def _make(kind: str, H: int, *, proj: int = 0, **options: object) -> nn.LSTM | nn.GRU:
    if proj:
        options["proj_size"] = max(1, H // 2)
    return getattr(nn, kind)(I, H, batch_first=True, **options).double()


def _state_for(module: nn.LSTM | nn.GRU, B: int) -> list[Tensor]:
    rows = module.num_layers * (2 if module.bidirectional else 1)
    widths = [module.proj_size or module.hidden_size]
    if isinstance(module, nn.LSTM):
        widths.append(module.hidden_size)
    return [torch.randn(rows, B, width, dtype=torch.float64) for width in widths]


def _torchs_form(state: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return state[0] if len(state) == 1 else tuple(state)


def _as_list(state: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def _largest_difference(a: list[Tensor], b: list[Tensor]) -> float:
    assert [t.shape for t in a] == [t.shape for t in b]
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "proj", "H"), _KINDS_AND_WIDTHS)
@torch.no_grad()
def test_stack_computes_what_torchs_module_does(kind, proj, H, *, bidirectional, num_layers, bias):
    module = _make(kind, H, proj=proj, num_layers=num_layers, bidirectional=bidirectional, bias=bias)
    stack = stack_from_torch(module)

    for B, T in _SHAPES:
        x, state = torch.randn(B, T, I, dtype=torch.float64), _state_for(module, B)
        output, last = stack(x, state)
        expected, expected_last = module(x, _torchs_form(state))
        assert _largest_difference([output, *last], [expected, *_as_list(expected_last)]) <= 1e-13


@pytest.mark.parametrize(("kind", "proj"), _KINDS)
@torch.no_grad()
def test_bidirectional_ragged_rows_are_those_of_packed_sequences(kind, proj):
    module = _make(kind, 8, proj=proj, num_layers=2, bidirectional=True)
    stack = stack_from_torch(module)
    x, lengths = torch.randn(5, 9, I, dtype=torch.float64), torch.tensor([9, 1, 4, 9, 2])
    state = _state_for(module, 5)

    output, last = stack(x, state, lengths)

    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed_output, packed_last = module(packed, _torchs_form(state))
    expected, _ = pad_packed_sequence(packed_output, batch_first=True)
    assert _largest_difference([output, *last], [expected, *_as_list(packed_last)]) <= 1e-13


@torch.no_grad()
def test_state_left_out_is_zeros():
    stack = RecurrentStack(LSTMCell, I, 4, num_layers=2, bidirectional=True)
    x = torch.randn(2, 5, I)

    output, _ = stack(x)

    assert torch.equal(output, stack(x, [torch.zeros(4, 2, 4)] * 2)[0])


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(4), 2)))
@torch.no_grad()
def test_two_lstm_gates_exchanged_are_noticed(first, second):
    module = _make("LSTM", 8)
    stack = stack_from_torch(module)
    order = list(range(4))
    order[first], order[second] = second, first
    for weight in stack.parameters():
        weight.copy_(torch.cat([weight.chunk(4)[k] for k in order]))
    x = torch.randn(2, 7, I, dtype=torch.float64)

    assert _largest_difference([stack(x)[0]], [module(x)[0]]) > 1e-3


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(3), 2)))
@torch.no_grad()
def test_two_gru_gates_exchanged_are_noticed(first, second):
    module = _make("GRU", 8)
    stack = stack_from_torch(module)
    order = list(range(3))
    order[first], order[second] = second, first
    for weight in stack.parameters():
        weight.copy_(torch.cat([weight.chunk(3)[k] for k in order]))
    x = torch.randn(2, 7, I, dtype=torch.float64)

    assert _largest_difference([stack(x)[0]], [module(x)[0]]) > 1e-3


@pytest.mark.parametrize(
    ("cell", "options"),
    [(LSTMCell, {}), (GRUCell, {}), (LayerNormLSTMCell, {}), (ProjectedLSTMCell, {"projection_dim": 2})],
)
@torch.no_grad()
def test_scripted_stack_is_the_eager_one_bit_for_bit_at_every_shape(cell, options):
    stack = RecurrentStack(cell, I, 4, num_layers=2, bidirectional=True, **options).eval()
    scripted = torch.jit.script(stack)

    for B, T in [(2, 5), (1, 1), (7, 17), (3, 2)]:
        x, lengths = torch.randn(B, T, I), torch.arange(B) % T + 1
        output, state = stack(x, None, lengths)
        expected = [output, *state]
        again, state_again = scripted(x, None, lengths)
        assert all(torch.equal(a, b) for a, b in zip([again, *state_again], expected, strict=True))
        carried, _ = scripted(x, state, lengths)
        assert torch.equal(carried, stack(x, state, lengths)[0])


def test_dropout_acts_between_layers_while_training_only():
    stack = RecurrentStack(LSTMCell, I, 16, num_layers=2, dropout=0.5)
    x = torch.randn(2, 5, I)

    training = [stack(x)[0] for _ in range(2)]
    stack.eval()
    evaluated = [stack(x)[0] for _ in range(2)]

    assert not torch.equal(*training)
    assert torch.equal(*evaluated)


def test_dropout_leaves_the_last_layer_alone():
    stack = RecurrentStack(LSTMCell, I, 16, dropout=0.9)
    x = torch.randn(2, 5, I)

    assert torch.equal(stack(x)[0], stack.eval()(x)[0])


def test_layer_that_exists_becomes_a_stack_that_shares_it():
    layer = LSTMLayer(ProjectedLSTMCell, I, 6, projection_dim=2, reverse=True)
    stack = RecurrentStack.of_layer(layer, I)
    x = torch.randn(2, 5, I)

    output, _ = stack(x)

    assert stack.layers[0] is layer
    assert torch.equal(output, layer(x)[0])


@pytest.mark.parametrize(("num_layers", "said"), [(0, "num_layers is 0"), (-1, "num_layers is -1")])
def test_stack_without_layers_is_refused(num_layers, said):
    with pytest.raises(ValueError, match=f"{said}, expected at least 1"):
        RecurrentStack(LSTMCell, I, 4, num_layers=num_layers)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_out_of_range_is_refused(dropout):
    with pytest.raises(ValueError, match=r"expected 0 <= dropout < 1"):
        RecurrentStack(LSTMCell, I, 4, dropout=dropout)


def test_cell_without_declared_state_is_refused():
    with pytest.raises(CellError):
        RecurrentStack(nn.Linear, I, 4)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([(2, 2, 4)], "state has 1 tensors, expected 2"),
        ([(3, 2, 4), (2, 2, 4)], r"state tensor 0 is \[3, 2, 4\], expected \[2, 2, 4\]"),
        ([(2, 2, 4), (2, 1, 4)], r"state tensor 1 is \[2, 1, 4\], expected \[2, 2, 4\]"),
    ],
    ids=["too few", "rows too many", "one row for the batch"],
)
def test_state_of_another_shape_is_refused(shapes, said):
    stack = RecurrentStack(LSTMCell, I, 4, num_layers=2)

    with pytest.raises(ValueError, match=said):
        stack(torch.zeros(2, 5, I), [torch.zeros(shape) for shape in shapes])
