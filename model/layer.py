"""The layer: one cell, looped over time. The only loop over time in the house.

Rules of this file: it knows the cell protocol and no cell; input and output are batch-first; a row's steps at and after
its length touch neither state nor output. TorchScript compiles every forward here with batch and time free.

The scripted signature follows the cell's state: LSTMLayer(cell, ...) makes itself a layer for one state tensor, for a
pair, or for a list of more (TorchScript has no type that is all three).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .cell import check_returned, check_state, plain_number, state_spec_of


class LSTMLayer(nn.Module):
    """Loop a cell over ``input.unbind(1)``, forwards or backwards.

    Args:
        cell: class of the cell (or a callable that makes one), called with the further arguments.
        cell_args: the cell's arguments, for LSTMCell input_dim and hidden_dim.
        reverse: whether time runs backwards; outputs stay in the order of the input.
        cell_options: the cell's keyword arguments.

    Raises:
        CellError: the cell declares no valid ``state_spec``; or, in a call, returns another state than that says.
    """

    def __init__(
        self, cell: Callable[..., nn.Module], *cell_args: object, reverse: bool = False, **cell_options: object
    ) -> None:
        super().__init__()
        self.cell_options = {name: plain_number(value) for name, value in cell_options.items()}
        self.cell = cell(*map(plain_number, cell_args), **self.cell_options)
        self.reverse = reverse
        self.state_widths = [width for _, width in state_spec_of(self.cell)]
        # Only the class of the instance changes, so copying, scripting and isinstance(layer, LSTMLayer) all hold.
        if type(self) is LSTMLayer and len(self.state_widths) != 2:  # noqa: PLR2004 - a subclass keeps its own forward
            self.__class__ = _OneStateLayer if len(self.state_widths) == 1 else _ManyStateLayer

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Advance the cell once: x [B, I], state tensors [B, width]."""
        result = self.cell(x, (state[0], state[1]))
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            check_returned(self.cell, result, self.state_widths)
        output, (hidden, cell) = result
        return output, [hidden, cell]

    def zero_state(self, input: Tensor) -> list[Tensor]:  # noqa: A002 - the tutorial's name
        """Return the initial state for input [B, T, I]: zeros [B, width] of its dtype and device."""
        return [
            torch.zeros(input.size(0), width, dtype=input.dtype, device=input.device) for width in self.state_widths
        ]

    def advance(self, input: Tensor, state: list[Tensor], lengths: Tensor | None) -> tuple[Tensor, list[Tensor]]:  # noqa: A002
        """Run the loop over time.

        Args:
            input: float [B, T, I], T >= 1; values at t >= lengths[b] are ignored.
            state: one tensor [B, width] for each entry of the cell's state_spec.
            lengths: integer [B], each in 0..T, or None for all T. A row of length 0 keeps its state.

        Returns:
            (output [B, T, H], zero where padded; state after each row's real steps).

        Raises:
            ValueError: no steps, or the state or lengths are not one row for each of the batch.
        """
        B = input.size(0)
        check_state(state, [[B, width] for width in self.state_widths])
        if lengths is not None and list(lengths.size()) != [B]:
            raise ValueError(f"lengths is {list(lengths.size())}, expected [{B}]")
        inputs = input.unbind(1)
        if len(inputs) == 0:
            raise ValueError("input has 0 steps, expected [B, T, I] with T of at least 1")
        outputs: list[Tensor] = []
        for k in range(len(inputs)):
            t = len(inputs) - 1 - k if self.reverse else k
            output, new_state = self.step(inputs[t], state)
            if lengths is not None:
                real = (lengths > t).unsqueeze(1)
                output = torch.where(real, output, torch.zeros_like(output))
                new_state = [torch.where(real, new, old) for new, old in zip(new_state, state)]  # noqa: B905 - TorchScript
            state = new_state
            outputs.append(output)
        if self.reverse:
            outputs.reverse()
        return torch.stack(outputs, 1), state

    def forward(
        self,
        input: Tensor,  # noqa: A002
        state: tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run all steps.

        Args:
            input: float [B, T, I], batch first, T >= 1.
            state: (hidden, cell), each [B, H]; None for zeros.
            lengths: integer [B], the real steps of each row, 0..T; None for all T.

        Returns:
            (output [B, T, H], (hidden, cell)). Layers over cells with one state tensor take and return that tensor,
            layers over cells with three or more a list.
        """
        initial = self.zero_state(input) if state is None else [state[0], state[1]]
        output, last = self.advance(input, initial, lengths)
        return output, (last[0], last[1])

    def gate_activations(
        self,
        input: Tensor,  # noqa: A002
        state: Tensor | Sequence[Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return what each gate did at every step, for people who must explain the network.

        The same loop runs over a cell that gives its gates as output; the path that does not ask is untouched. Args as
        for ``forward``.

        Returns:
            name -> [B, T, H] for each of the cell's ``gate_names``, zero where padded.

        Raises:
            TypeError: the cell has no ``gates`` method.
        """
        recorder = LSTMLayer(_GateRecorder, self.cell, reverse=self.reverse)
        if state is None:
            state = self.zero_state(input)
        initial = [state] if isinstance(state, Tensor) else list(state)
        record, _ = recorder.advance(input, initial, lengths)
        names: tuple[str, ...] = self.cell.gate_names  # type: ignore[assignment]
        return dict(zip(names, record.chunk(len(names), 2), strict=True))


class _OneStateLayer(LSTMLayer):
    """The layer over a cell with one state tensor, such as a GRU."""

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        result = self.cell(x, state[0])
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            check_returned(self.cell, result, self.state_widths)
        output, new_state = result
        return output, [new_state]

    def forward(  # type: ignore[override]
        self,
        input: Tensor,  # noqa: A002
        state: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        initial = self.zero_state(input) if state is None else [state]
        output, last = self.advance(input, initial, lengths)
        return output, last[0]


class _ManyStateLayer(LSTMLayer):
    """The layer over a cell with three or more state tensors, which takes and returns them as a list."""

    def step(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        result = self.cell(x, state)
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            check_returned(self.cell, result, self.state_widths)
        output, new_state = result
        return output, new_state

    def forward(  # type: ignore[override]
        self,
        input: Tensor,  # noqa: A002
        state: list[Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        return self.advance(input, self.zero_state(input) if state is None else state, lengths)


class _GateRecorder(nn.Module):
    """A cell around a cell: the same state, and as output the gates side by side [B, gates * H]."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        if not hasattr(cell, "gates") or not hasattr(cell, "gate_names"):
            raise TypeError(
                f"{type(cell).__name__} has no gates(x, state) and gate_names, expected both to record gates"
            )
        self.cell = cell
        self.state_spec = state_spec_of(cell)

    def forward(self, x: Tensor, state: object) -> tuple[Tensor, object]:
        _, new_state = self.cell(x, state)
        return torch.cat(self.cell.gates(x, state), 1), new_state  # type: ignore[operator]
