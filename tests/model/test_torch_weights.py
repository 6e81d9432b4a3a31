"""Weights to and from PyTorch's own modules: every bit kept, and a clear refusal where torch cannot say it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cellgate.model import (
    CoupledLSTMCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    LSTMLayer,
    PeepholeLSTMCell,
    ProjectedLSTMCell,
    RecurrentStack,
    cell_from_torch,
    cell_to_torch,
    stack_from_torch,
    stack_to_torch,
)

_SIZES = {
    "input_size": st.integers(1, 6),
    "hidden_size": st.integers(2, 7),
    "num_layers": st.integers(1, 3),
    "bias": st.booleans(),
    "bidirectional": st.booleans(),
    "batch_first": st.booleans(),
}


def _same_bits(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from([nn.LSTM, nn.GRU]), projected=st.booleans(), sizes=st.fixed_dictionaries(_SIZES))
def test_module_comes_back_from_a_stack_bit_for_bit(kind, projected, sizes):
    if projected and kind is nn.LSTM:
        sizes["proj_size"] = sizes["hidden_size"] // 2
    module = kind(**sizes)

    back = stack_to_torch(stack_from_torch(module), batch_first=module.batch_first)

    assert type(back) is kind
    assert back.extra_repr() == module.extra_repr()
    assert _same_bits(back, module)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from([nn.LSTMCell, nn.GRUCell]),
    sizes=st.fixed_dictionaries({name: _SIZES[name] for name in ("input_size", "hidden_size", "bias")}),
)
def test_torchs_cell_comes_back_bit_for_bit(kind, sizes):
    module = kind(**sizes)

    back = cell_to_torch(cell_from_torch(module))

    assert type(back) is kind
    assert _same_bits(back, module)


def test_gate_rows_are_exchanged_and_not_computed():
    module = nn.LSTM(1, 2)
    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.tensor([[1.0], [2], [3], [4], [5], [6], [7], [8]]))  # i i f f g g o o

    cell = stack_from_torch(module).layers[0].cell

    assert cell.input_layer.weight.flatten().tolist() == [1, 2, 3, 4, 7, 8, 5, 6]


def test_converted_cell_computes_the_same():
    theirs = nn.LSTMCell(3, 4).double()
    x, h, c = (torch.randn(2, width, dtype=torch.float64) for width in (3, 4, 4))

    _, (new_h, new_c) = cell_from_torch(theirs)(x, (h, c))

    expected_h, expected_c = theirs(x, (h, c))
    torch.testing.assert_close((new_h, new_c), (expected_h, expected_c), rtol=0, atol=1e-15)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_dtype_mode_dropout_and_frozen_weights_are_kept_both_ways(dtype, training):
    module = nn.LSTM(3, 4, num_layers=2, dropout=0.25, dtype=dtype).train(training)
    module.weight_hh_l1.requires_grad_(False)

    stack = stack_from_torch(module)
    back = stack_to_torch(stack)

    assert {weight.dtype for weight in stack.parameters()} == {dtype}
    assert (stack.training, stack.dropout.p) == (training, 0.25)
    assert [n for n, w in stack.named_parameters() if not w.requires_grad] == ["layers.1.cell.hidden_layer.weight"]
    assert {weight.dtype for weight in back.parameters()} == {dtype}
    assert (back.training, back.dropout) == (training, 0.25)
    assert [n for n, w in back.named_parameters() if not w.requires_grad] == ["weight_hh_l1"]


def test_device_is_kept():
    module = nn.GRU(3, 4, device="meta")

    stack = stack_from_torch(module)

    assert {weight.device.type for weight in (*stack.parameters(), *stack_to_torch(stack).parameters())} == {"meta"}


def test_dropout_on_one_layer_goes_to_torch_without_a_warning():
    assert stack_to_torch(RecurrentStack(LSTMCell, 3, 4, dropout=0.5)).dropout == 0.5


def test_conversion_draws_no_random_numbers():
    module, cell = nn.LSTM(3, 4), nn.GRUCell(3, 4)
    before = torch.random.get_rng_state()

    stack_from_torch(module)
    cell_from_torch(cell)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_converted_weights_are_copies():
    module = nn.LSTM(3, 4)
    stack = stack_from_torch(module)
    with torch.no_grad():
        module.weight_ih_l0.zero_()

    assert stack.layers[0].cell.input_layer.weight.any()


@pytest.mark.parametrize(
    ("cell", "options", "said"),
    [
        (PeepholeLSTMCell, {}, "PeepholeLSTMCell has peepholes"),
        (CoupledLSTMCell, {}, "CoupledLSTMCell has a coupled input and forget gate"),
        (LayerNormLSTMCell, {}, "LayerNormLSTMCell has layer normalisation"),
        (LSTMCell, {"cell_activation": "relu"}, "LSTMCell has the activations sigmoid, relu, tanh"),
    ],
)
def test_what_torch_cannot_say_is_refused(cell, options, said):
    with pytest.raises(ValueError, match=f"{said}, which torch.nn has no module for"):
        stack_to_torch(RecurrentStack(cell, 3, 4, **options))
    with pytest.raises(ValueError, match=said):
        cell_to_torch(cell(3, 4, **options))


def test_cell_of_ones_own_is_refused():
    class Own(LSTMCell):
        pass

    with pytest.raises(ValueError, match="Own is a cell of your own"):
        cell_to_torch(Own(3, 4))


def test_cell_whose_weight_is_computed_by_a_norm_is_refused():
    cell = LSTMCell(3, 4)
    nn.utils.parametrizations.weight_norm(cell.hidden_layer)

    with pytest.raises(ValueError, match=r"has the parameter hidden_layer\.parametrizations\S+, which torch.nn has no"):
        cell_to_torch(cell)


def test_projected_cell_exists_in_torch_as_a_module_only():
    with pytest.raises(ValueError, match=r"torch.nn.LSTMCell has no projection"):
        cell_to_torch(ProjectedLSTMCell(3, 4, projection_dim=2))


def test_stack_of_one_layer_that_exists_goes_to_torch_with_its_own_width():
    stack = RecurrentStack.of_layer(LSTMLayer(ProjectedLSTMCell, 3, 4, projection_dim=2), 3)

    module = stack_to_torch(stack)

    assert (module.hidden_size, module.proj_size) == (4, 2)


def test_stack_that_runs_backwards_alone_is_refused():
    stack = RecurrentStack.of_layer(LSTMLayer(GRUCell, 3, 4, reverse=True), 3)

    with pytest.raises(ValueError, match="layer 0 of the stack runs backwards alone"):
        stack_to_torch(stack)


@pytest.mark.parametrize("module", [nn.RNN(3, 4), nn.Linear(3, 4)])
def test_other_modules_are_no_stack(module):
    with pytest.raises(ValueError, match=r"expected torch.nn.LSTM or torch.nn.GRU"):
        stack_from_torch(module)


@pytest.mark.parametrize("module", [nn.RNNCell(3, 4), nn.LSTM(3, 4)])
def test_other_modules_are_no_cell(module):
    with pytest.raises(ValueError, match=r"expected torch.nn.LSTMCell or torch.nn.GRUCell"):
        cell_from_torch(module)
