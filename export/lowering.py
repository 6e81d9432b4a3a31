"""Lower a network's recurrent layers to forms in which a captured graph keeps time free.

Every stack, and every layer that stands alone, is exchanged in a copy of the network: for fused operators where the
cell is recognised (recognise.py), else for a scan over the cell itself. Interfaces stay, so whatever module contains the
layers does not notice. The original is not touched.

Rules of this file: post-condition of ``lower``: no LSTMLayer is left; weights are copied once, in ONNX gate order.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..model.layer import LSTMLayer
from ..model.stack import RecurrentStack, output_width_of
from .errors import UnsupportedLayerError
from .input_width import input_dim_of
from .recognise import FusedForm, matrices_of, recognise


@dataclass(frozen=True, kw_only=True, slots=True)
class LoweredLayer:
    """What became of one layer (both its directions): its place in the network, and the operator that runs it."""

    path: str
    cell: str
    operator: str  # "LSTM", "GRU" or "Scan"


def lower(network: nn.Module) -> tuple[nn.Module, tuple[LoweredLayer, ...]]:
    """Return a copy of ``network`` whose recurrent layers are graph forms, and what became of each layer.

    Raises:
        UnsupportedLayerError: a recurrent layer of torch is left that this house cannot exchange.
    """
    lowered = copy.deepcopy(network).eval()
    report: list[LoweredLayer] = []
    if isinstance(lowered, (RecurrentStack, LSTMLayer)):
        return _lower_module(lowered, "network", report), tuple(report)
    done: list[str] = []
    for path, module in list(lowered.named_modules()):
        if isinstance(module, nn.RNNBase):
            raise UnsupportedLayerError(
                f"{path} is a {type(module).__name__}, expected nn.LSTM, nn.GRU or a cell's layer"
            )
        inside = any(path.startswith(stack + ".") for stack in done)
        if not inside and isinstance(module, (RecurrentStack, LSTMLayer)):
            parent, _, name = path.rpartition(".")
            setattr(lowered.get_submodule(parent), name, _lower_module(module, path, report))
            done.append(path)
    return lowered, tuple(report)


def _lower_module(module: RecurrentStack | LSTMLayer, path: str, report: list[LoweredLayer]) -> nn.Module:
    if isinstance(module, LSTMLayer):
        (graph_layer,) = _lower_layers([module], path, report)
        return GraphLayer(graph_layer, module)
    pairs = [
        list(module.layers)[first : first + module.num_directions]
        for first in range(0, len(module.layers), module.num_directions)
    ]
    layers: list[nn.Module] = []
    for number, pair in enumerate(pairs):
        layers += _lower_layers(pair, f"{path}.{number}", report)  # type: ignore[arg-type] # elements are layers
    return GraphStack(layers, module)


def _lower_layers(pair: Sequence[LSTMLayer], path: str, report: list[LoweredLayer]) -> list[nn.Module]:
    """Lower the directions of one layer: one fused operator for both, or a scan for each."""
    forms = [recognise(layer.cell, input_dim_of(layer)) for layer in pair]
    first = forms[0]
    fused = first is not None and all(
        form is not None
        and (form.kind, form.activations, form.input_forget, form.linear_before_reset, bool(form.peephole_order))
        == (first.kind, first.activations, first.input_forget, first.linear_before_reset, bool(first.peephole_order))
        for form in forms
    )
    cell = type(pair[0].cell).__name__
    report.append(LoweredLayer(path=path, cell=cell, operator=first.kind if fused and first else "Scan"))
    if fused:
        return [FusedLayer(pair, [form for form in forms if form is not None])]
    return [ScanLayer(layer) for layer in pair]


class FusedLayer(nn.Module):
    """One layer, one direction or two, as a single ONNX LSTM or GRU node."""

    def __init__(self, pair: Sequence[LSTMLayer], forms: Sequence[FusedForm]) -> None:
        super().__init__()
        form = forms[0]
        self.kind = form.kind
        self.activations = ",".join(form.activations)
        self.input_forget = int(form.input_forget)
        self.linear_before_reset = int(form.linear_before_reset)
        self.direction = "bidirectional" if len(pair) > 1 else "reverse" if pair[0].reverse else "forward"
        self.num_directions = len(pair)
        packed = [pack_weights(layer.cell, form, input_dim_of(layer)) for layer, form in zip(pair, forms, strict=True)]
        for name in ("w", "r", "b"):
            self.register_buffer(name, torch.stack([weights[name] for weights in packed]))
        self.register_buffer("p", torch.stack([weights["p"] for weights in packed]) if "p" in packed[0] else None)

    def forward(self, x: Tensor, lengths: Tensor | None, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x [T, B, I], state tensors [D, B, H]; returns y [T, B, D*H] and the state."""
        if self.kind == "LSTM":
            y, h, c = torch.ops.cellgate.lstm(
                x, lengths, *state, self.w, self.r, self.b, self.p, self.direction, self.activations, self.input_forget
            )
            last = [h, c]
        else:
            y, h = torch.ops.cellgate.gru(
                x, lengths, *state, self.w, self.r, self.b, self.direction, self.activations, self.linear_before_reset
            )
            last = [h]
        return y.squeeze(1) if self.num_directions == 1 else y.transpose(1, 2).flatten(2), last


class ScanLayer(nn.Module):
    """One layer in one direction as an ONNX Scan over the cell itself: any scriptable cell, any number of states."""

    def __init__(self, layer: LSTMLayer) -> None:
        super().__init__()
        self.cell = layer.cell
        self.reverse = layer.reverse
        self.num_directions = 1
        self.states = len(layer.state_widths)

    def forward(self, x: Tensor, lengths: Tensor | None, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """x [T, B, I], state tensors [1, B, width]; returns y [T, B, H] and the state."""
        from torch._higher_order_ops.scan import scan  # noqa: PLC0415 - costs a second that a fused network need not pay

        T, B = x.shape[0], x.shape[1]
        steps = torch.arange(T, device=x.device).unsqueeze(1)
        real = steps.expand(T, B) < (lengths.unsqueeze(0) if lengths is not None else T)

        def step(carry: tuple[Tensor, ...], inputs: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
            x_t, real_t = inputs
            keep = real_t.unsqueeze(1)
            argument: Any = carry[0] if self.states == 1 else list(carry) if self.states > 2 else carry  # noqa: PLR2004
            output, new = self.cell(x_t, argument)
            after = (new,) if isinstance(new, Tensor) else tuple(new)
            kept = tuple(torch.where(keep, a, b) for a, b in zip(after, carry, strict=True))
            return kept, torch.where(keep, output, torch.zeros_like(output))

        # Backwards, padding comes first and leaves the state alone, so each row starts at its own last step.
        inputs = (x.flip(0), real.flip(0)) if self.reverse else (x, real)
        last, y = scan(step, tuple(tensor[0] for tensor in state), inputs, dim=0)
        return y.flip(0) if self.reverse else y, [tensor.unsqueeze(0) for tensor in last]


class GraphStack(nn.Module):
    """A lowered RecurrentStack: the same call, batch first outside and time first inside."""

    def __init__(self, layers: Sequence[nn.Module], stack: RecurrentStack) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.num_directions = stack.num_directions
        self.num_layers = stack.num_layers
        self.state_spec = stack.state_spec
        self.input_dim = stack.input_dim
        self.output_dim = stack.output_dim
        self.state_widths = stack.state_widths

    def zero_state(self, input: Tensor) -> list[Tensor]:  # noqa: A002 - as in the stack
        """Return zeros [L*D, B, width] for input [B, T, I]."""
        rows = self.num_layers * self.num_directions
        return [input.new_zeros(rows, input.size(0), width) for width in self.state_widths]

    def forward(
        self,
        input: Tensor,  # noqa: A002
        state: list[Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """As RecurrentStack.forward."""
        initial = self.zero_state(input) if state is None else state
        signal = input.transpose(0, 1)
        lengths32 = None if lengths is None else lengths.to(torch.int32)
        finals: list[list[Tensor]] = []
        outputs: list[Tensor] = []
        row = 0
        for layer in self.layers:
            D = layer.num_directions
            output, last = layer(signal, lengths32, [rows[row : row + D] for rows in initial])
            finals.append(last)
            outputs.append(output)
            row += D
            if row % self.num_directions == 0:
                signal = torch.cat(outputs, 2) if len(outputs) > 1 else output
                outputs = []
        return signal.transpose(0, 1), [
            torch.cat(rows, 0) if len(rows) > 1 else rows[0] for rows in zip(*finals, strict=True)
        ]


class GraphLayer(nn.Module):
    """A lowered LSTMLayer that stood alone: the same call, state tensors [B, width]."""

    def __init__(self, graph_layer: nn.Module, layer: LSTMLayer) -> None:
        super().__init__()
        self.graph_layer = graph_layer
        self.state_widths = layer.state_widths
        self.output_dim = output_width_of(layer)

    def forward(
        self,
        input: Tensor,  # noqa: A002
        state: Any = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """As LSTMLayer.forward."""
        if state is None:
            state = [input.new_zeros(input.size(0), width) for width in self.state_widths]
        tensors = [state] if isinstance(state, Tensor) else list(state)
        output, last = self.graph_layer(
            input.transpose(0, 1),
            None if lengths is None else lengths.to(torch.int32),
            [tensor.unsqueeze(0) for tensor in tensors],
        )
        after = [tensor.squeeze(0) for tensor in last]
        shaped = after[0] if len(after) == 1 else tuple(after) if len(after) == 2 else after  # noqa: PLR2004
        return output.transpose(0, 1), shaped


def pack_weights(cell: nn.Module, form: FusedForm, input_dim: int) -> dict[str, Tensor]:
    """Return w [4H, I] (GRU 3H), r [.., H], b [8H] or [6H] and, with peepholes, p [3H], in ONNX gate order."""
    weights = {name: parameter.detach() for name, parameter in cell.named_parameters()}
    blocks = form.slots.blocks

    def reorder(tensor: Tensor) -> Tensor:
        parts = tensor.chunk(blocks, 0)
        gates = [parts[block] if block >= 0 else torch.zeros_like(parts[0]) for block in form.order]
        return torch.cat([-gate if form.negated and form.negated[k] else gate for k, gate in enumerate(gates)])

    w, r, input_bias, hidden_bias = matrices_of(form.slots, weights, input_dim)
    packed = {
        "w": reorder(w),
        "r": reorder(r),
        "b": torch.cat([reorder(input_bias.to(w.dtype)), reorder(hidden_bias.to(w.dtype))]),
    }
    if form.peephole_order:
        signs = [-1.0 if form.negated and form.negated[k] else 1.0 for k in range(3)]
        packed["p"] = torch.cat([weights[name] * sign for name, sign in zip(form.peephole_order, signs, strict=True)])
    return packed
