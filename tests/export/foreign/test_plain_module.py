"""Modules in wrappers are taken out of them; modules that are not complete float32 ones are refused with the remedy."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from cellgate.export.errors import SourceError
from cellgate.export.foreign.plain_module import plain_copy


class Net(nn.Module):
    """An LSTM and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(torch.compile, id="compile"),
        pytest.param(nn.DataParallel, id="data-parallel"),
        pytest.param(lambda net: nn.DataParallel(torch.compile(net)), id="both"),
    ],
)
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module]) -> None:
    assert type(plain_copy(wrap(Net()))) is Net


def test_weights_of_a_layer_that_a_norm_computes_are_refused_and_the_remedy_keeps_the_values() -> None:
    net = Net()
    parametrizations.weight_norm(net.rnn, "weight_hh_l0")
    before = net.rnn.weight_hh_l0.detach().clone()

    with pytest.raises(SourceError, match=r"rnn computes weight_hh_l0 anew .*remove_parametrizations\(layer"):
        plain_copy(net)
    parametrize.remove_parametrizations(net.rnn, "weight_hh_l0")

    copied = plain_copy(net)
    assert isinstance(copied, Net)
    assert torch.equal(copied.rnn.weight_hh_l0, before)


def test_weights_of_a_training_that_diverged_are_refused_by_name_and_nothing_else_is_blamed() -> None:
    net = Net()
    net.head.bias.data[1] = torch.nan

    with pytest.raises(
        SourceError, match=r"Net\.head\.bias holds NaN in 1 of 3 places, .* diverged, take weights from"
    ):
        plain_copy(net)


def test_infinity_may_stand_in_a_mask() -> None:
    net = Net()
    net.register_buffer("mask", torch.full((3,), -torch.inf))

    assert isinstance(plain_copy(net), Net)


def test_norm_over_a_head_may_stay() -> None:
    net = Net()
    parametrizations.spectral_norm(net.head)

    assert isinstance(plain_copy(net), Net)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.orthogonal])
def test_weights_that_are_computed_stand_in_their_place_and_the_source_computes_on(norm: Callable[..., None]) -> None:
    net = Net()
    norm(net.head)
    value = net.head.weight.detach().clone()

    copied = plain_copy(net)

    assert isinstance(copied, Net)
    assert torch.equal(copied.head.weight, value)
    assert type(copied.head) is nn.Linear
    assert parametrize.is_parametrized(net.head)


def test_weight_that_is_another_each_time_is_left_to_be_found_out() -> None:
    class Drops(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return nn.functional.dropout(weight)

    net = Net()
    parametrize.register_parametrization(net.head, "weight", Drops())

    copied = plain_copy(net)

    assert isinstance(copied, Net)
    assert parametrize.is_parametrized(copied.head)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_old_weight_norm_is_refused_and_the_remedy_keeps_the_values() -> None:
    net = Net()
    nn.utils.weight_norm(net.head)
    before = net.head.weight.detach().clone()

    with pytest.raises(SourceError, match=r"head computes weight anew .*remove_weight_norm\(layer, \"weight\"\)"):
        plain_copy(net)
    nn.utils.remove_weight_norm(net.head, "weight")

    copied = plain_copy(net)
    assert isinstance(copied, Net)
    assert torch.allclose(copied.head.weight, before)


@pytest.mark.parametrize(("layer", "name"), [("rnn", "weight_hh_l0"), ("head", "weight")])
def test_pruning_is_refused_and_the_remedy_keeps_the_values(layer: str, name: str) -> None:
    net = Net()
    pruned = net.get_submodule(layer)
    prune.l1_unstructured(pruned, name, 0.5)
    before = getattr(pruned, name).detach().clone()

    with pytest.raises(SourceError, match=rf"{layer} computes {name} anew .*utils\.prune\.remove\(layer, .{name}.\)"):
        plain_copy(net)
    prune.remove(pruned, name)

    assert torch.equal(getattr(plain_copy(net).get_submodule(layer), name), before)


def test_lazy_module_is_refused_until_it_ran_once() -> None:
    net = Net()
    net.head = nn.LazyLinear(3)

    with pytest.raises(SourceError, match=r"head\.weight has no size yet, .*call the module once"):
        plain_copy(net)
    net(torch.zeros(1, 2, 4))

    assert isinstance(plain_copy(net), Net)


def test_more_weights_than_one_file_can_hold_are_refused_before_they_are_copied() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Embedding(2**20, 512), Net())

    with pytest.raises(SourceError, match=r"has 2147484\d{3} bytes of weights, expected at most 2147483647, .*float32"):
        plain_copy(net)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_module_is_refused() -> None:
    quantised = torch.ao.quantization.quantize_dynamic(Net(), {nn.LSTM, nn.Linear})

    with pytest.raises(SourceError, match=r"Net is quantised .*rnn is a .*expected float32"):
        plain_copy(quantised)


def test_module_that_kept_something_of_its_training_is_refused_and_the_remedy_works() -> None:
    class Keeps(Net):
        def forward(self, x: Tensor) -> Tensor:
            y, self.hidden = self.rnn(x)
            return self.head(y)  # type: ignore[no-any-return]

    net = nn.Sequential(Keeps())
    net(torch.zeros(1, 2, 4))

    with pytest.raises(SourceError, match=r"0\.hidden is left from a run with gradients: .*set 0\.hidden = None"):
        plain_copy(net)
    net[0].hidden = None

    assert isinstance(plain_copy(net), nn.Sequential)


def test_complex_weights_are_refused_with_another_way_to_hold_them() -> None:
    net = Net()
    net.turns = nn.Parameter(torch.ones(6, dtype=torch.complex64))

    with pytest.raises(SourceError, match=r"Net\.turns is complex64, expected float32, for ONNX .*as two tensors"):
        plain_copy(net)
