"""A whole module that takes one step, as a cell: the last way, for whatever keeps its form.

Rules of this file: the cell computes what the module does, its state flat; nothing is judged here.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ...model.layer import LSTMLayer
from ...model.stack import RecurrentStack
from .step_call import StepCall
from .step_form import StepForm
from .written_layer import WrittenLayer, with_layers

_NAMES = "hcdefgijklmopqrstuvwz"  # as loops/rolled_module.py names states
_PAIR = 2


class StepCell(nn.Module):
    """A module that takes one step, behind the cell protocol (model/cell.py); tokens come as numbers [B, 1].

    Args:
        call: the module.
    """

    def __init__(self, call: StepCall) -> None:
        super().__init__()
        self.call = call
        form = call.form
        self.state_spec = tuple(
            (_NAMES[k % len(_NAMES)] + (f"{k // len(_NAMES)}_" if k >= len(_NAMES) else ""), leaf.parts * leaf.width)
            for k, leaf in enumerate(form.leaves)
        )
        self.input_dim = 1 if form.takes_tokens else form.width
        self.output_dim = form.output_dim

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Take one step."""
        form, flat = self.call.form, [state] if isinstance(state, Tensor) else list(state)
        leaves = [
            leaf.from_parts(list(tensor.chunk(leaf.parts, 1))) for leaf, tensor in zip(form.leaves, flat, strict=True)
        ]
        step = x[:, 0].to(torch.int64) if form.takes_tokens else x
        y, new = self.call(step, leaves)
        parts = [torch.cat(leaf.to_parts(tensor), 1) for leaf, tensor in zip(form.leaves, new, strict=True)]
        return y, parts[0] if len(parts) == 1 else tuple(parts) if len(parts) == _PAIR else parts


class CellNetwork(nn.Module):
    """A layer over a StepCell, for a whole sequence.

    Args:
        module: as it came; not changed.
        form: how it is called.
    """

    def __init__(self, module: nn.Module, form: StepForm) -> None:
        super().__init__()
        cell = StepCell(StepCall(with_layers(module, WrittenLayer), form))
        self.takes_tokens = form.takes_tokens
        self.steps = RecurrentStack.of_layer(LSTMLayer(lambda: cell).eval(), cell.input_dim)
        self.__class__ = type(type(module).__name__, (CellNetwork,), {})

    def forward(self, x: Tensor) -> Tensor:
        """Return y [B, T, O]."""
        signal = x.unsqueeze(2).to(next(self.parameters()).dtype) if self.takes_tokens else x
        y: Tensor = self.steps(signal)[0]
        return y
