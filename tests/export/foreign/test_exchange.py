"""Layers exchanged in a module: torch's, hand-written loops, and those of this house."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import UnsupportedLayerError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.exchange import exchange
from cellgate.export.foreign.exchanged_layer import ExchangedLayer
from cellgate.model import GRUCell, LSTMCell, LSTMLayer, RecurrentStack

I, H = 4, 6


class TutorialCell(nn.Module):
    """As in PyTorch's custom_lstms: parameters of its own, gate order of torch."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.randn(4 * hidden_dim, input_dim) * 0.3)
        self.weight_hh = nn.Parameter(torch.randn(4 * hidden_dim, hidden_dim) * 0.3)
        self.bias = nn.Parameter(torch.randn(4 * hidden_dim) * 0.3)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        i, f, g, o = (x @ self.weight_ih.t() + h @ self.weight_hh.t() + self.bias).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class Loop(nn.Module):
    """A hand-written layer: any cell, either direction, either layout."""

    def __init__(self, cell: nn.Module, *, reverse: bool = False, axis: int = 1) -> None:
        super().__init__()
        self.cell, self.reverse, self.axis = cell, reverse, axis

    def forward(self, input: Tensor, state: Any = None) -> tuple[Tensor, Any]:  # noqa: A002 - torch's name
        steps = list(input.unbind(self.axis))
        if state is None:
            zeros = torch.zeros(steps[0].size(0), H, dtype=input.dtype)
            state = zeros if isinstance(self.cell, nn.GRUCell | nn.RNNCell) else (zeros, zeros)
        outputs = []
        for x in reversed(steps) if self.reverse else steps:
            result = self.cell(x, state)
            new = isinstance(self.cell, nn.RNNCellBase)
            state = result if new else result[1]
            outputs.append((result if isinstance(result, Tensor) else result[0]) if new else result[0])
        return torch.stack(outputs[::-1] if self.reverse else outputs, self.axis), state


@pytest.mark.covering("tutorial")
@pytest.mark.parametrize(
    ("layer", "operators"),
    [
        pytest.param(Loop(TutorialCell(I, H)), {"LSTM": 1}, id="tutorial"),
        pytest.param(Loop(TutorialCell(I, H), reverse=True), {"LSTM": 1}, id="reverse"),
        pytest.param(Loop(nn.LSTMCell(I, H), reverse=True), {"LSTM": 1}, id="LSTMCell"),
        pytest.param(Loop(nn.GRUCell(I, H)), {"GRU": 1}, id="GRUCell"),
        pytest.param(Loop(nn.RNNCell(I, H)), {"Scan": 1}, id="RNNCell"),
    ],
)
def test_hand_written_loop_is_adopted_as_what_its_cell_is(
    exported: Any, layer: Loop, operators: dict[str, int]
) -> None:
    graph = exported(layer)

    assert operators.items() <= graph.operators.items()
    x, lengths, *state = graph.exportable.example(3, 11)
    actual = graph.run(x.numpy(), lengths.numpy(), *(tensor.numpy() for tensor in state))
    for row, count in enumerate(lengths.tolist()):
        start = [tensor[0, row : row + 1] for tensor in state]
        with torch.no_grad():
            y, final = layer(x[row : row + 1, :count], start[0] if len(start) == 1 else tuple(start))
        final = [final] if isinstance(final, Tensor) else list(final)
        assert float(np.abs(actual[0][row, :count] - y[0].numpy()).max()) < 2e-6
        assert not actual[0][row, count:].any()
        for found, expected in zip(actual[1:], final, strict=True):
            assert float(np.abs(found[0, row] - expected[0].numpy()).max()) < 2e-6


class Deep(nn.Module):
    """Hand-written layers, time first, far down in a module, with a width read off one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"a": nn.ModuleList([Loop(TutorialCell(I, H), axis=0)])})
        self.back = Loop(nn.LSTMCell(H, H), axis=0, reverse=True)
        self.head = nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(x.size(1), self.back.cell.hidden_size)
        y, _ = self.body["a"][0](x, (zeros, zeros))
        return self.head(self.back(y)[0])


def test_hand_written_layers_deep_in_a_time_first_module_are_adopted(exported: Any) -> None:
    module = Deep()

    graph = exported(module)

    assert [(entry.path, entry.was) for entry in graph.exportable.exchanges] == [
        ("body.a.0", "Loop over TutorialCell"),
        ("back", "Loop over LSTMCell"),
    ]
    x = torch.randn(2, 8, I)
    zeros = [np.zeros((1, 2, H), np.float32)] * 4
    with torch.no_grad():
        expected = module(x.transpose(0, 1)).transpose(0, 1)
    actual = graph.run(x.numpy(), np.array([8, 8], np.int32), *zeros)[0]
    assert float(np.abs(expected.numpy() - actual).max()) < 2e-6


class Halved(Loop):
    """Looks like a loop over its cell and is none."""

    def forward(self, input: Tensor, state: Any = None) -> tuple[Tensor, Any]:  # noqa: A002 - torch's name
        y, state = super().forward(input, state)
        return y * 0.5, state


class Widening(nn.Module):
    """Has one child that is no cell."""

    def __init__(self, child: nn.Module) -> None:
        super().__init__()
        self.child = child

    def forward(self, x: Tensor) -> Tensor:
        return self.child(x)


@pytest.mark.parametrize(
    "module", [Halved(TutorialCell(I, H)), Widening(nn.ReLU()), Widening(nn.Linear(I, H)), nn.Sequential()]
)
def test_what_does_not_loop_as_this_house_does_is_left_alone(module: nn.Module) -> None:
    _, _, report = exchange(module)

    assert report == ()


class MakesZeros(nn.Module):
    """Makes zeros in the default precision where it is given no state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = torch.zeros(x.size(0), H) if h is None else h
        outputs = []
        for step in x.unbind(1):
            h = self.cell(step, h)
            outputs.append(h)
        return torch.stack(outputs, 1), h


def test_layer_that_makes_its_own_zeros_is_adopted() -> None:
    _, _, report = exchange(nn.ModuleDict({"one": MakesZeros()}))

    assert [entry.was for entry in report] == ["MakesZeros over GRUCell"]


def test_what_became_of_a_layer_is_told_under_its_cells_own_name() -> None:
    (layer,) = prepare(Loop(TutorialCell(I, H))).layers

    assert (layer.cell, layer.operator) == ("TutorialCell", "LSTM")


def test_layers_of_this_house_are_kept_and_share_one_carry() -> None:
    stack, layer = RecurrentStack(GRUCell, I, H), LSTMLayer(LSTMCell, I, H)
    module = nn.ModuleDict({"stack": stack, "layer": layer, "again": stack})

    exchanged, carry, report = exchange(module)

    assert [(entry.path, entry.was) for entry in report] == [("stack", "RecurrentStack"), ("layer", "LSTMLayer")]
    assert exchanged["stack"] is exchanged["again"]
    assert all(isinstance(child, ExchangedLayer) and child.carry is carry for child in exchanged.children())


def test_subclass_that_computes_something_else_is_refused() -> None:
    class Doubled(nn.LSTM):
        def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002 - torch's name
            y, state = super().forward(input, hx)
            return 2 * y, state

    with pytest.raises(UnsupportedLayerError, match="does not compute what its weights say"):
        exchange(nn.Sequential(Doubled(I, H)))


class OutputAlone(nn.LSTM):
    """Is called in another way than torch's own layers are."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override] # noqa: A002 - torch's name
        return 2 * super().forward(input)[0]


class HoldsOne(nn.Module):
    """As OutputAlone, with the layer held."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.rnn(x)[0]


def test_subclass_with_a_call_of_its_own_is_refused_and_the_remedy_works(exported: Any) -> None:
    with pytest.raises(
        UnsupportedLayerError, match=r"0 is a OutputAlone .*let it hold an nn.LSTM as self.rnn"
    ) as caught:
        exchange(nn.Sequential(OutputAlone(I, H)))

    assert "\n" not in str(caught.value)
    assert exported(HoldsOne()).largest_difference() < 2e-6


def test_layer_with_hooks_is_told_to_take_them_off() -> None:
    layer = nn.GRU(I, H)
    layer.register_forward_hook(lambda _module, _given, returned: (2 * returned[0], returned[1]))

    with pytest.raises(UnsupportedLayerError, match=r"has hooks .*take them off"):
        exchange(nn.Sequential(layer))


@pytest.mark.parametrize("given", [torch.zeros(I), "words"])
def test_input_that_is_no_batch_of_sequences_is_refused(given: Any) -> None:
    exchanged, _, _ = exchange(nn.LSTM(I, H))

    with pytest.raises(UnsupportedLayerError, match=r"was given (shape \[4\]|str), expected a batch"):
        exchanged(given)


def test_plain_attributes_of_the_layer_can_still_be_read() -> None:
    exchanged, _, _ = exchange(nn.LSTM(I, H, 2, batch_first=True))

    assert (exchanged.hidden_size, exchanged.num_layers, exchanged.batch_first) == (H, 2, True)
    exchanged.flatten_parameters()
    with pytest.raises(AttributeError, match="no_such_thing"):
        exchanged.no_such_thing  # noqa: B018


def test_weights_of_the_layer_can_still_be_read_in_the_dtype_of_the_others() -> None:
    layer = nn.LSTM(I, H)
    exchanged, _, _ = exchange(layer)

    assert torch.equal(exchanged.weight_hh_l0, layer.weight_hh_l0)
    assert exchanged.double().weight_hh_l0.new_zeros(1).dtype == torch.float64


def test_exchange_draws_no_global_random_number() -> None:
    module, state = Deep(), torch.get_rng_state()

    exchange(module)

    assert torch.equal(state, torch.get_rng_state())
