"""The control's layer of torch: for cells of this house and for those that others wrote."""

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.proof.control_layer import torch_layer_of
from cellgate.model import GRUCell, LSTMCell, PeepholeLSTMCell, RecurrentStack

I, H = 3, 4


class GatesInOrder(nn.Module):
    """The tutorial's cell with its gates in any order, ``order`` naming i, f, g and o."""

    def __init__(self, input_dim: int, hidden_dim: int, order: str = "ifgo") -> None:
        super().__init__()
        self.state_spec = (("h", hidden_dim), ("c", hidden_dim))
        self.input_dim, self.order = input_dim, order
        self.input_layer = nn.Linear(input_dim, 4 * hidden_dim)
        self.hidden_layer = nn.Linear(hidden_dim, 4 * hidden_dim, bias=False)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        blocks = (self.input_layer(x) + self.hidden_layer(state[0])).chunk(4, 1)
        gates = dict(zip(self.order, blocks, strict=True))
        c = gates["f"].sigmoid() * state[1] + gates["i"].sigmoid() * gates["g"].tanh()
        h = gates["o"].sigmoid() * c.tanh()
        return h, (h, c)


class OwnGRU(nn.Module):
    """A GRU as torch has it, gates in the order new, reset, update."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.state_spec = (("h", hidden_dim),)
        self.input_dim = input_dim
        self.of_x = nn.Linear(input_dim, 3 * hidden_dim)
        self.of_h = nn.Linear(hidden_dim, 3 * hidden_dim)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        (n_x, r_x, z_x), (n_h, r_h, z_h) = self.of_x(x).chunk(3, 1), self.of_h(state).chunk(3, 1)
        n, z = (n_x + (r_x + r_h).sigmoid() * n_h).tanh(), (z_x + z_h).sigmoid()
        h = (1 - z) * n + z * state
        return h, h


class RecurrentReluCell(GatesInOrder):
    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        i, f, g, o = (self.input_layer(x) + self.hidden_layer(state[0])).chunk(4, 1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.relu()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


def stack_of(cell: type[nn.Module], *, layers: int = 2, both_ways: bool = False, **options: object) -> RecurrentStack:
    torch.manual_seed(5)
    return RecurrentStack(cell, I, H, num_layers=layers, bidirectional=both_ways, **options).double().eval()


@pytest.mark.parametrize(
    ("stack", "kind"),
    [
        pytest.param(stack_of(LSTMCell), nn.LSTM, id="of-this-house"),
        pytest.param(stack_of(GRUCell, both_ways=True), nn.GRU, id="of-this-house-both-ways"),
        pytest.param(stack_of(GatesInOrder), nn.LSTM, id="own-lstm"),
        pytest.param(stack_of(GatesInOrder, layers=1, order="gofi"), nn.LSTM, id="own-lstm-in-another-order"),
        pytest.param(stack_of(GatesInOrder, both_ways=True, order="ofig"), nn.LSTM, id="own-lstm-both-ways"),
        pytest.param(stack_of(OwnGRU), nn.GRU, id="own-gru"),
    ],
)
def test_torchs_layer_computes_what_the_stack_does_whoever_wrote_its_cell(stack, kind):
    layer = torch_layer_of(stack)
    x = torch.randn(2, 6, I, dtype=torch.float64)

    expected, states = stack(x)
    found, final = layer(x)

    assert isinstance(layer, kind)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(final if isinstance(final, Tensor) else final[1], states[-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        pytest.param(PeepholeLSTMCell, "has peepholes", id="peepholes"),
        pytest.param(RecurrentReluCell, "RecurrentReluCell is a cell of your own", id="another-activation"),
    ],
)
def test_a_cell_that_torch_has_no_layer_for_is_no_control(cell, sentence):
    with pytest.raises(ValueError, match=f"{sentence}.*, which torch.nn has no module for"):
        torch_layer_of(stack_of(cell, layers=1))
