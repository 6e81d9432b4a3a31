"""The forms of recurrent layers in which a captured graph keeps time free.

They stand for layers and stacks of this house during an export: the same calls, batch first outside and time first
inside. A fused layer cannot run at all (its operators exist in graphs only), so only the exporter may call these.

Rules of this file: no weight is arranged here (fused_form.py) and nothing is decided (lowering.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...model.layer import LSTMLayer
from ...model.stack import RecurrentStack
from .fused_form import FusedForm


class FusedLayer(nn.Module):
    """One layer, one direction or two, as a single ONNX LSTM or GRU node.

    Args:
        form: of the first direction; the others share its ``attributes``.
        direction: "forward", "reverse" or "bidirectional".
        weights: for each direction what ``pack_weights`` gave.
    """

    def __init__(self, form: FusedForm, direction: str, weights: Sequence[Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.kind = form.kind
        self.activations = ",".join(form.activations)
        self.input_forget = int(form.input_forget)
        self.linear_before_reset = int(form.linear_before_reset)
        self.direction = direction
        self.num_directions = len(weights)
        for name in ("w", "r", "b"):
            self.register_buffer(name, torch.stack([packed[name] for packed in weights]))
        self.register_buffer("p", torch.stack([packed["p"] for packed in weights]) if "p" in weights[0] else None)

    def forward(self, x: Tensor, lengths: Tensor | None, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Take x [T, B, I], lengths int32 [B], state tensors [D, B, H]; return y [T, B, D*H] and the state."""
        if self.kind == "LSTM":
            y, h, c = torch.ops.cellgate.lstm(
                x, lengths, *state, self.w, self.r, self.b, self.p, self.direction, self.activations, self.input_forget
            )
            return y, [h, c]
        y, h = torch.ops.cellgate.gru(
            x, lengths, *state, self.w, self.r, self.b, self.direction, self.activations, self.linear_before_reset
        )
        return y, [h]


class ScanLayer(nn.Module):
    """One layer in one direction as an ONNX Scan over the cell itself: any scriptable cell, any number of states."""

    def __init__(self, layer: LSTMLayer) -> None:
        super().__init__()
        self.cell = layer.cell
        self.reverse = layer.reverse
        self.num_directions = 1
        self.states = len(layer.state_widths)

    def forward(self, x: Tensor, lengths: Tensor | None, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Take x [T, B, I], lengths int32 [B], state tensors [1, B, width]; return y [T, B, H] and the state."""
        from torch._higher_order_ops.scan import scan  # noqa: PLC0415 - costs a second that a fused network need not pay

        inputs, real = [x], None
        if lengths is not None:
            steps = torch.arange(x.shape[0], device=x.device, dtype=torch.int32).unsqueeze(1)
            real = (steps < lengths.unsqueeze(0)).unsqueeze(2)  # [T, B, 1]
            inputs.append(real)
        # Backwards, padding comes first and leaves the state alone, so each row starts at its own last step.
        if self.reverse:
            inputs = [tensor.flip(0) for tensor in inputs]
        # A scan may not begin with one tensor twice either, and a module may give it one as several of its states.
        initial = tuple(tensor.squeeze(0).clone() for tensor in state)
        last, y = scan(self._step, initial, tuple(inputs), dim=0)
        y = y.flip(0) if self.reverse else y
        # The padding of the output is zeroed for all steps at once, which spares the loop a node.
        return y if real is None else torch.where(real, y, 0.0), [tensor.unsqueeze(0) for tensor in last]

    def _step(self, carry: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        argument: Any = carry[0] if self.states == 1 else list(carry) if self.states > 2 else carry  # noqa: PLR2004 - the cell protocol
        output, new = self.cell(inputs[0], argument)
        after = (new,) if isinstance(new, Tensor) else tuple(new)
        if len(inputs) > 1:
            kept = tuple(torch.where(inputs[1], a, b) for a, b in zip(after, carry, strict=True))
            return kept, output.clone()
        # A scan may not return one tensor twice, and a cell's output often is its first state.
        return tuple(tensor.clone() for tensor in after), output.clone()


class GraphStack(nn.Module):
    """A lowered RecurrentStack: the same call."""

    def __init__(self, layers: Sequence[nn.Module], stack: RecurrentStack) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.rows = [int(layer.num_directions) for layer in layers]  # type: ignore[arg-type] # set by the layers above
        self.num_directions = stack.num_directions
        self.num_layers = stack.num_layers
        self.state_spec = stack.state_spec
        self.input_dim = stack.input_dim
        self.output_dim = stack.output_dim
        self.state_widths = stack.state_widths

    def zero_state(self, input: Tensor) -> list[Tensor]:  # noqa: A002 - as in the stack
        """Return zeros [L*D, B, width] for input [B, T, I]."""
        return [input.new_zeros(sum(self.rows), input.size(0), width) for width in self.state_widths]

    def forward(
        self,
        input: Tensor,  # noqa: A002
        state: list[Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """As RecurrentStack.forward."""
        initial = self.zero_state(input) if state is None else state
        # Rows of the state for each layer; one layer takes them as they are, and no node is spent.
        parts = [list(torch.split(rows, self.rows)) if len(self.rows) > 1 else [rows] for rows in initial]
        lengths = None if lengths is None else lengths.to(torch.int32)
        signal = input.transpose(0, 1)
        finals: list[list[Tensor]] = []
        outputs: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            output, last = layer(signal, lengths, [rows[k] for rows in parts])
            finals.append(last)
            outputs.append(output)
            if sum(self.rows[: k + 1]) % self.num_directions == 0:
                signal = torch.cat(outputs, 2) if len(outputs) > 1 else output
                outputs = []
        joined = [torch.cat(rows, 0) if len(rows) > 1 else rows[0] for rows in zip(*finals, strict=True)]
        return signal.transpose(0, 1), joined
