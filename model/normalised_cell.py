"""LSTM cells that no fused ONNX operator can say: layer normalisation, and a projected hidden state.

Source: Ba, Kiros & Hinton (2016), "Layer Normalization", equations 20 to 22; Sak, Senior & Beaufays (2014) for the
projection, with the weight's place as in torch.nn.LSTM(proj_size=P).
"""

from typing import Final

import torch
from torch import Tensor, nn

from .cell import StateSpec


class LayerNormLSTMCell(nn.Module):
    """An LSTM step with layer normalisation of both contributions to the gates and of the cell state on its way out.

    The normalisations carry the offsets, so the linear layers have no bias.

    Args:
        input_dim: I.
        hidden_dim: H.
        epsilon: added to the variance.
    """

    gate_names: Final = ("input", "forget", "output", "cell_gate", "cell")

    def __init__(self, input_dim: int, hidden_dim: int, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.input_layer = nn.Linear(input_dim, 4 * hidden_dim, bias=False)
        self.hidden_layer = nn.Linear(hidden_dim, 4 * hidden_dim, bias=False)
        self.input_norm = nn.LayerNorm(4 * hidden_dim, eps=epsilon)
        self.hidden_norm = nn.LayerNorm(4 * hidden_dim, eps=epsilon)
        self.cell_norm = nn.LayerNorm(hidden_dim, eps=epsilon)
        self.state_spec: StateSpec = (("h", hidden_dim), ("c", hidden_dim))

    def gates(
        self, current_input: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return (input, forget, output, cell_gate, new_cell) of one step, each [B, H]; new_cell before its norm."""
        hidden, cell = state
        contributions = self.input_norm(self.input_layer(current_input)) + self.hidden_norm(self.hidden_layer(hidden))
        i, f, o, g = contributions.chunk(4, 1)
        input_gate, forget_gate, cell_gate = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g)
        return input_gate, forget_gate, torch.sigmoid(o), cell_gate, forget_gate * cell + input_gate * cell_gate

    def forward(self, current_input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Advance one step; current_input [B, I], state (hidden, cell) each [B, H]."""
        _, _, output_gate, _, new_cell = self.gates(current_input, state)
        new_hidden = output_gate * torch.tanh(self.cell_norm(new_cell))
        return new_hidden, (new_hidden, new_cell)


class ProjectedLSTMCell(nn.Module):
    """An LSTM step whose hidden state is projected from H to P before it is used and fed back.

    Args:
        input_dim: I.
        hidden_dim: H, width of the cell state.
        projection_dim: P, width of the hidden state, 1 .. H - 1.
        bias: whether the two gate layers carry a bias each; the projection never does.
    """

    gate_names: Final = ("input", "forget", "output", "cell_gate", "cell")

    def __init__(self, input_dim: int, hidden_dim: int, *, projection_dim: int, bias: bool = True) -> None:
        super().__init__()
        if not 0 < projection_dim < hidden_dim:
            raise ValueError(f"projection_dim is {projection_dim}, expected 1 .. {hidden_dim - 1} (below hidden_dim)")
        self.input_layer = nn.Linear(input_dim, 4 * hidden_dim, bias=bias)
        self.hidden_layer = nn.Linear(projection_dim, 4 * hidden_dim, bias=bias)
        self.projection = nn.Linear(hidden_dim, projection_dim, bias=False)
        self.state_spec: StateSpec = (("h", projection_dim), ("c", hidden_dim))

    def gates(
        self, current_input: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return (input, forget, output, cell_gate, new_cell) of one step, each [B, H]."""
        hidden, cell = state
        i, f, o, g = (self.input_layer(current_input) + self.hidden_layer(hidden)).chunk(4, 1)
        input_gate, forget_gate, cell_gate = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g)
        return input_gate, forget_gate, torch.sigmoid(o), cell_gate, forget_gate * cell + input_gate * cell_gate

    def forward(self, current_input: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Advance one step; current_input [B, I], hidden [B, P], cell [B, H]; the output is the new hidden."""
        _, _, output_gate, _, new_cell = self.gates(current_input, state)
        new_hidden = self.projection(output_gate * torch.tanh(new_cell))
        return new_hidden, (new_hidden, new_cell)
