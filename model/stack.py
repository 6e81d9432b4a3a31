"""The stack: layers above each other, each in one direction or in both.

Rules of this file: no loop over time (that is the layer's), no gate. Order of layers and of state rows as in
torch.nn.LSTM: layer 0 forwards, layer 0 backwards, layer 1 forwards, and so on.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .cell import check_state, state_spec_of, whole_number
from .layer import LSTMLayer


class RecurrentStack(nn.Module):
    """L layers of one kind of cell, D directions each.

    Args:
        cell: class of the cell, called as cell(input_dim, hidden_dim, **cell_options).
        input_dim: I.
        hidden_dim: H of every layer.
        num_layers: L, at least 1.
        bidirectional: D = 2; outputs of the two directions stand side by side.
        dropout: probability between layers while training, 0 <= dropout < 1.
        cell_options: keyword arguments of the cell.

    Raises:
        ValueError: num_layers or dropout out of range.
        TypeError: input_dim, hidden_dim or num_layers is no whole number.
        CellError: the cell declares no valid ``state_spec``.
    """

    def __init__(
        self,
        cell: Callable[..., nn.Module],
        input_dim: int,
        hidden_dim: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        **cell_options: object,
    ) -> None:
        super().__init__()
        input_dim, hidden_dim = whole_number("input_dim", input_dim), whole_number("hidden_dim", hidden_dim)
        num_layers = whole_number("num_layers", num_layers)
        if num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}, expected at least 1")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is {dropout}, expected 0 <= dropout < 1")
        self.input_dim = input_dim
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.num_directions = 2 if bidirectional else 1
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList()
        width = input_dim
        for _ in range(num_layers):
            for direction in range(self.num_directions):
                self.layers.append(LSTMLayer(cell, width, hidden_dim, reverse=direction == 1, **cell_options))
            width = self.num_directions * output_width_of(self.layers[-1])
        self.output_dim = width
        self.cell_options = dict(cell_options)
        self.state_spec = state_spec_of(self.layers[0].cell)  # type: ignore[arg-type]
        self.state_widths = [size for _, size in self.state_spec]

    @classmethod
    def of_layer(cls, layer: LSTMLayer, input_dim: int) -> "RecurrentStack":
        """Return a stack of one layer that exists already; the layer is shared, not copied."""
        cell = layer.cell
        stack = cls(lambda *_: cell, input_dim, layer.state_widths[0])
        stack.layers[0] = layer
        stack.cell_options = dict(layer.cell_options)
        return stack

    def zero_state(self, input: Tensor) -> list[Tensor]:  # noqa: A002 - as in the layer
        """Return zeros [L*D, B, width], one tensor for each entry of state_spec, for input [B, T, I]."""
        rows = self.num_layers * self.num_directions
        return [
            torch.zeros(rows, input.size(0), width, dtype=input.dtype, device=input.device)
            for width in self.state_widths
        ]

    def forward(
        self,
        input: Tensor,  # noqa: A002
        state: list[Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run every layer over all steps.

        Args:
            input: float [B, T, I], T >= 1; values at t >= lengths[b] are ignored.
            state: one tensor [L*D, B, width] for each entry of state_spec; None for zeros.
            lengths: integer [B], each in 0..T; None for all T.

        Returns:
            (output [B, T, D*H], zero where padded; final state, shaped as ``state``).

        Raises:
            ValueError: no steps, or state or lengths of another shape.
        """
        initial = self.zero_state(input) if state is None else state
        count = self.num_layers * self.num_directions
        check_state(initial, [[count, input.size(0), width] for width in self.state_widths])
        finals: list[list[Tensor]] = [[] for _ in self.state_widths]
        outputs: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            output, last = layer.advance(input, [rows[k] for rows in initial], lengths)  # type: ignore[operator]
            outputs.append(output)
            for n in range(len(finals)):
                finals[n].append(last[n])
            if len(outputs) == self.num_directions:
                input = torch.cat(outputs, 2)  # noqa: A001
                outputs.clear()
                if k + 1 < len(self.layers):
                    input = self.dropout(input)  # noqa: A001
        return input, [torch.stack(rows, 0) for rows in finals]


def output_width_of(layer: nn.Module) -> int:
    """Return the width of a layer's output for one direction: the cell's ``output_dim``, else its first state's."""
    cell = layer.cell
    assert isinstance(cell, nn.Module)
    declared = getattr(cell, "output_dim", None)
    return state_spec_of(cell)[0][1] if declared is None else int(declared)
