"""The LSTM cell of the tutorial, and the two variants that change one equation of it.

    i, f, o, g = chunk(W x + U h + b, 4)          gate order: input, forget, output, cell
    c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h' = sigmoid(o) * tanh(c')

Source: Hochreiter & Schmidhuber (1997); forget gate: Gers, Schmidhuber & Cummins (2000); peepholes: Gers & Schmidhuber
(2000); coupled gates: Greff et al. (2017), "LSTM: A Search Space Odyssey", variant CIFG.
"""

from typing import Final

import torch
from torch import Tensor, nn

from .cell import StateSpec, activate, check_activations


class LSTMCell(nn.Module):
    """One LSTM step from two linear layers of 4*H, gates split by ``chunk(4, 1)``.

    Args:
        input_dim: I, width of the input.
        hidden_dim: H, width of hidden and cell state.
        bias: whether the two linear layers carry a bias each.
        gate_activation: squashes input, forget and output gate.
        cell_activation: squashes the cell gate.
        output_activation: squashes the cell state on its way out.
    """

    gate_activation: Final[str]
    cell_activation: Final[str]
    output_activation: Final[str]
    gate_names: Final = ("input", "forget", "output", "cell_gate", "cell")

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        bias: bool = True,
        gate_activation: str = "sigmoid",
        cell_activation: str = "tanh",
        output_activation: str = "tanh",
    ) -> None:
        super().__init__()
        check_activations(gate_activation, cell_activation, output_activation)
        self.input_layer = nn.Linear(input_dim, 4 * hidden_dim, bias=bias)
        self.hidden_layer = nn.Linear(hidden_dim, 4 * hidden_dim, bias=bias)
        self.gate_activation = gate_activation
        self.cell_activation = cell_activation
        self.output_activation = output_activation
        self.state_spec: StateSpec = (("h", hidden_dim), ("c", hidden_dim))

    def gates(
        self, current_input: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return (input, forget, output, cell_gate, new_cell) of one step, each [B, H], after their activations."""
        hidden, cell = state
        preactivations = self.input_layer(current_input) + self.hidden_layer(hidden)
        i, f, o, g = preactivations.chunk(4, 1)
        input_gate = activate(self.gate_activation, i)
        forget_gate = activate(self.gate_activation, f)
        output_gate = activate(self.gate_activation, o)
        cell_gate = activate(self.cell_activation, g)
        return input_gate, forget_gate, output_gate, cell_gate, forget_gate * cell + input_gate * cell_gate

    def forward(self, current_input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Advance one step.

        Args:
            current_input: float [B, I].
            state: (hidden, cell), each [B, H].

        Returns:
            (new_hidden, (new_hidden, new_cell)), each [B, H].
        """
        _, _, output_gate, _, new_cell = self.gates(current_input, state)
        new_hidden = output_gate * activate(self.output_activation, new_cell)
        return new_hidden, (new_hidden, new_cell)


class PeepholeLSTMCell(nn.Module):
    """An LSTM step whose gates also see the cell state, each unit its own (diagonal peepholes, three vectors [H]).

    Input and forget gate see the old cell state, the output gate the new one. Args as for LSTMCell.
    """

    gate_names: Final = ("input", "forget", "output", "cell_gate", "cell")

    def __init__(self, input_dim: int, hidden_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.input_layer = nn.Linear(input_dim, 4 * hidden_dim, bias=bias)
        self.hidden_layer = nn.Linear(hidden_dim, 4 * hidden_dim, bias=bias)
        bound = hidden_dim**-0.5
        self.input_peephole = nn.Parameter(torch.empty(hidden_dim).uniform_(-bound, bound))
        self.forget_peephole = nn.Parameter(torch.empty(hidden_dim).uniform_(-bound, bound))
        self.output_peephole = nn.Parameter(torch.empty(hidden_dim).uniform_(-bound, bound))
        self.state_spec: StateSpec = (("h", hidden_dim), ("c", hidden_dim))

    def gates(
        self, current_input: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return (input, forget, output, cell_gate, new_cell) of one step, each [B, H], after their activations."""
        hidden, cell = state
        i, f, o, g = (self.input_layer(current_input) + self.hidden_layer(hidden)).chunk(4, 1)
        input_gate = torch.sigmoid(i + self.input_peephole * cell)
        forget_gate = torch.sigmoid(f + self.forget_peephole * cell)
        cell_gate = torch.tanh(g)
        new_cell = forget_gate * cell + input_gate * cell_gate
        return input_gate, forget_gate, torch.sigmoid(o + self.output_peephole * new_cell), cell_gate, new_cell

    def forward(self, current_input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Advance one step; shapes as in LSTMCell.forward."""
        _, _, output_gate, _, new_cell = self.gates(current_input, state)
        new_hidden = output_gate * torch.tanh(new_cell)
        return new_hidden, (new_hidden, new_cell)


class CoupledLSTMCell(nn.Module):
    """An LSTM step with one gate for both: what is let in is what is forgotten, f = 1 - i. Blocks of H: i, o, g."""

    gate_names: Final = ("input", "forget", "output", "cell_gate", "cell")

    def __init__(self, input_dim: int, hidden_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.input_layer = nn.Linear(input_dim, 3 * hidden_dim, bias=bias)
        self.hidden_layer = nn.Linear(hidden_dim, 3 * hidden_dim, bias=bias)
        self.state_spec: StateSpec = (("h", hidden_dim), ("c", hidden_dim))

    def gates(
        self, current_input: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return (input, forget, output, cell_gate, new_cell) of one step, each [B, H], after their activations."""
        hidden, cell = state
        i, o, g = (self.input_layer(current_input) + self.hidden_layer(hidden)).chunk(3, 1)
        input_gate = torch.sigmoid(i)
        forget_gate = 1.0 - input_gate
        cell_gate = torch.tanh(g)
        return input_gate, forget_gate, torch.sigmoid(o), cell_gate, forget_gate * cell + input_gate * cell_gate

    def forward(self, current_input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Advance one step; shapes as in LSTMCell.forward."""
        _, _, output_gate, _, new_cell = self.gates(current_input, state)
        new_hidden = output_gate * torch.tanh(new_cell)
        return new_hidden, (new_hidden, new_cell)
