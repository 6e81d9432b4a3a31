"""The GRU cell, in the form of torch.nn.GRU: the reset gate acts after the hidden state's linear layer.

    r, z, n_x = chunk(W x + b_W, 3);  r_h, z_h, n_h = chunk(U h + b_U, 3)      order: reset, update, new
    r = sigmoid(r + r_h);  z = sigmoid(z + z_h);  n = tanh(n_x + r * n_h)
    h' = (1 - z) * n + z * h

Source: Cho et al. (2014), with the placement of the reset gate of cuDNN and torch.nn.GRU (ONNX linear_before_reset=1).
"""

from typing import Final

import torch
from torch import Tensor, nn

from .cell import StateSpec


class GRUCell(nn.Module):
    """One GRU step from two linear layers of 3*H.

    Args:
        input_dim: I.
        hidden_dim: H.
        bias: whether the two linear layers carry a bias each.
    """

    gate_names: Final = ("reset", "update", "new", "hidden")

    def __init__(self, input_dim: int, hidden_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.input_layer = nn.Linear(input_dim, 3 * hidden_dim, bias=bias)
        self.hidden_layer = nn.Linear(hidden_dim, 3 * hidden_dim, bias=bias)
        self.state_spec: StateSpec = (("h", hidden_dim),)

    def gates(self, current_input: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (reset, update, new, new_hidden) of one step, each [B, H]."""
        r_x, z_x, n_x = self.input_layer(current_input).chunk(3, 1)
        r_h, z_h, n_h = self.hidden_layer(state).chunk(3, 1)
        reset = torch.sigmoid(r_x + r_h)
        update = torch.sigmoid(z_x + z_h)
        new = torch.tanh(n_x + reset * n_h)
        return reset, update, new, (1.0 - update) * new + update * state

    def forward(self, current_input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance one step: current_input [B, I], state [B, H]; returns (new_hidden, new_hidden)."""
        _, _, _, new_hidden = self.gates(current_input, state)
        return new_hidden, new_hidden
