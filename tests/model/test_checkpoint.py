"""A network from a checkpoint alone: sizes read off the weights, and an error wherever that would be a guess."""

import itertools

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cellgate.model import (
    GRUCell,
    LSTMCell,
    LSTMLayer,
    PeepholeLSTMCell,
    SequenceModel,
    WeightsError,
    network_from_checkpoint,
    save_network,
)


def _with_prefix(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: weight for name, weight in module.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "encoder.rnn.", "module."])
@pytest.mark.parametrize(
    ("kind", "proj", "num_layers", "bidirectional", "bias"),
    [
        (*kind, num_layers, bidirectional, bias)
        for kind, num_layers, bidirectional, bias in itertools.product(
            [("LSTM", 0), ("LSTM", 2), ("GRU", 0)], (1, 3), (False, True), (False, True)
        )
    ],
)
@torch.no_grad()
def test_torchs_module_is_known_by_its_shapes(tmp_path, *, kind, proj, num_layers, bidirectional, bias, prefix):
    options = {"proj_size": proj} if proj else {}
    module = getattr(nn, kind)(
        3, 4, num_layers=num_layers, bidirectional=bidirectional, bias=bias, batch_first=True, **options
    ).double()
    torch.save(_with_prefix(module, prefix), tmp_path / "a.pt")

    network, facts = network_from_checkpoint(tmp_path / "a.pt")

    assert (facts["form"], facts["prefix"], facts["dtype"]) == (f"torch.nn.{kind}", prefix, "float64")
    assert facts["parameters"] == sum(weight.numel() for weight in module.parameters())
    assert facts["description"] == network.describe()
    assert not network.training
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(network(x)[0], module(x)[0], rtol=0, atol=1e-13)
    rebuilt = SequenceModel.from_description(network.describe())
    assert {name: w.shape for name, w in rebuilt.state_dict().items()} == {
        name: w.shape for name, w in network.state_dict().items()
    }


@pytest.mark.parametrize("bias", [True, False])
def test_tutorials_layer_is_known_by_its_names(tmp_path, bias):
    layer = LSTMLayer(LSTMCell, 3, 4, bias=bias)
    safetensors.torch.save_file(layer.state_dict(), tmp_path / "a.safetensors", {"author": "someone"})

    network, facts = network_from_checkpoint(tmp_path / "a.safetensors")

    assert (facts["form"], facts["prefix"], facts["metadata"]) == ("LSTMLayer", "cell.", {"author": "someone"})
    x = torch.randn(2, 5, 3)
    assert torch.equal(network(x)[0], layer(x)[0])


def test_file_of_this_house_says_itself_what_it_is(tmp_path):
    source = SequenceModel(3, [4, 5], 2, cell="PeepholeLSTMCell", reads="mean").eval()
    save_network(source, tmp_path / "a.safetensors", {"author": "someone"})

    network, facts = network_from_checkpoint(tmp_path / "a.safetensors")

    assert (facts["form"], facts["metadata"]) == ("cellgate", {"author": "someone"})
    assert facts["description"] == source.describe()
    x = torch.randn(2, 5, 3)
    assert torch.equal(network(x)[0], source(x)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_to_float32_exactly(tmp_path, dtype):
    layer = LSTMLayer(LSTMCell, 3, 4).to(dtype)
    torch.save(layer.state_dict(), tmp_path / "a.pt")

    network, facts = network_from_checkpoint(tmp_path / "a.pt")

    assert facts["dtype"] == str(dtype).removeprefix("torch.")
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    weight = network.stacks[0].layers[0].cell.input_layer.weight
    assert torch.equal(weight, layer.cell.input_layer.weight.float())


def _lstm(**changes: Tensor | None) -> dict[str, Tensor]:
    """Return the state dict of an nn.LSTM of two layers with some entries changed; None removes one."""
    weights = {**nn.LSTM(3, 4, num_layers=2).state_dict(), **changes}
    return {name: weight for name, weight in weights.items() if weight is not None}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            lambda: {"conv.weight": torch.zeros(3, 3)},
            r"holds conv.weight, from which no network is known; known alone are .*factory",
        ),
        (
            lambda: _lstm(**{"head.weight": torch.zeros(2, 4), "head.bias": torch.zeros(2)}),
            r"holds head.weight, head.bias beside its recurrent module.*factory",
        ),
        (
            lambda: _with_prefix(nn.LSTM(3, 4), "encoder.") | _with_prefix(nn.LSTM(3, 4), "decoder."),
            r"holds 2 recurrent modules \('decoder.', 'encoder.'\), expected one.*factory",
        ),
        (lambda: nn.RNN(3, 4).state_dict(), r"weight_hh_l0 is \[4, 4\], expected \[4\*H, H\] for an LSTM"),
        (lambda: _lstm(weight_hh_l0=torch.zeros(15, 4)), r"weight_hh_l0 is \[15, 4\], expected"),
        (lambda: _lstm(weight_hh_l0=torch.zeros(16)), r"weight_hh_l0 is \[16\], expected two dimensions"),
        (lambda: _lstm(weight_ih_l0=torch.zeros(16, 0)), r"weight_ih_l0 is \[16, 0\], expected two dimensions"),
        (lambda: _lstm(weight_ih_l0=None), "weight_ih_l0 is missing beside"),
        (lambda: _lstm(weight_ih_l1=None), "missing weight_ih_l1; it needs"),
        (lambda: _lstm(weight_ih_l1=torch.zeros(16, 5)), r"weight_ih_l1 is \[16, 5\], expected \[16, 4\]"),
        (lambda: _lstm(weight_ih_l7=torch.zeros(16, 4)), "unexpected weight_ih_l7"),
        (lambda: _lstm(weight_ih_l0_reverse=torch.zeros(16, 3)), "missing weight_hh_l0_reverse"),
        (lambda: _lstm(weight_hr_l0=torch.zeros(4, 4)), "expected a projection to less than 4"),
        (lambda: _lstm(weight_hr_l0=torch.zeros(4, 5)), r"weight_hh_l0 is \[16, 4\], expected"),
        (
            lambda: LSTMLayer(GRUCell, 3, 4).state_dict(),
            r"hidden_layer.weight is \[12, 4\], which a GRUCell and a CoupledLSTMCell both have.*factory",
        ),
        (lambda: LSTMLayer(PeepholeLSTMCell, 3, 4).state_dict(), "holds cell.input_peephole, cell.forget_peephole"),
        (
            lambda: LSTMLayer(LSTMCell, 3, 4).state_dict() | {"cell.hidden_layer.weight": torch.zeros(17, 4)},
            r"hidden_layer.weight is \[17, 4\], expected \[4\*H, H\]",
        ),
        (
            lambda: LSTMLayer(LSTMCell, 3, 4).state_dict() | {"cell.hidden_layer.bias": torch.zeros(15)},
            r"hidden_layer.bias is \[15\], expected \[16\]",
        ),
        (lambda: {"cell.input_layer.weight": torch.zeros(16, 3)}, "hidden_layer.weight is missing beside"),
        (
            lambda: {n: w.to(torch.complex64) for n, w in _lstm().items()},
            "weight_ih_l0 is complex64, expected one of float16",
        ),
    ],
)
def test_weights_that_leave_a_choice_or_do_not_fit_are_refused(tmp_path, weights, said):
    torch.save(dict(weights()), tmp_path / "a.pt")

    with pytest.raises(WeightsError, match=said):
        network_from_checkpoint(tmp_path / "a.pt")


def test_file_without_tensors_is_no_network(tmp_path):
    safetensors.torch.save_file({}, tmp_path / "a.safetensors")

    with pytest.raises(WeightsError, match="holds nothing, from which no network is known"):
        network_from_checkpoint(tmp_path / "a.safetensors")
