"""All steps in one call of a module that takes one: as rows of a batch, with whole sequences for its recurrent layers.

What stands before and behind a layer treats each row alone, so the steps of all rows may be rows. The layer gets them
as the sequences that they are, and its state passes by the module's back (exchanged_layer.py). A module that makes
something else of its state differs from its steps taken by hand, and is put in a loop instead (step_proof.py).

Rules of this file: nothing is judged here.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedLayerError
from .step_call import StepCall
from .step_form import StepForm
from .written_layer import take_numbers, with_layers


@dataclass(slots=True)
class _Sizes:
    """The batch and steps of the run, for the layers inside the module."""

    rows: int = 0
    steps: int = 0


class AllSteps(nn.Module):
    """A module that takes one step, called once for all steps.

    Args:
        module: as it came; not changed.
        form: how it is called.
    """

    def __init__(self, module: nn.Module, form: StepForm) -> None:
        super().__init__()
        self.sizes = sizes = _Sizes()
        self.call = StepCall(with_layers(module, lambda layer: _WholeLayer(layer, sizes)), form)
        self.__class__ = type(type(module).__name__, (AllSteps,), {})

    def forward(self, x: Tensor) -> Tensor:
        """Return y [B, T, O]."""
        rows, steps = x.size(0), x.size(1)
        self.sizes.rows, self.sizes.steps = rows, steps
        flat = _laid_out(x.flatten(0, 1))
        dtype = next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)
        y: Tensor = self.call(flat, self.call.form.zeros(rows * steps, dtype))[0]
        return y.reshape(rows, steps, self.call.form.output_dim)


class _WholeLayer(nn.Module):
    """The place of a recurrent layer: takes the steps of all rows as a batch of single steps, and runs sequences."""

    num_layers: int
    batch_first: bool

    def __init__(self, was: nn.RNNBase, sizes: _Sizes) -> None:
        super().__init__()
        take_numbers(self, was)
        self.layer = copy.copy(was)
        self.layer.batch_first = True
        self.sizes = sizes

    def flatten_parameters(self) -> None:
        """Do nothing: modules call it on torch's layers before they run."""

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:  # noqa: A002 - torch's names
        """Return the output of all steps; of the states, what is known of each step is the top layer's hidden one."""
        time = 1 if self.batch_first else 0
        if input.dim() != 3 or input.shape[time] != 1:  # noqa: PLR2004 - [1, B, I]
            raise UnsupportedLayerError(f"a recurrent layer was given shape {list(input.shape)}, expected one step")
        rows, steps = self.sizes.rows, self.sizes.steps
        output, _ = self.layer(_laid_out(input.squeeze(time)).reshape(rows, steps, input.size(-1)))
        said = output.reshape(rows * steps, output.size(-1))
        given = [] if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)
        hidden = (
            torch.cat([given[0][:-1], said.unsqueeze(0)], 0) if given and self.num_layers > 1 else said.unsqueeze(0)
        )
        state = hidden if len(given) < 2 else (hidden, given[1])  # noqa: PLR2004 - hidden and cell
        return said.unsqueeze(time), state


def _laid_out(tensor: Tensor) -> Tensor:
    """Return a copy whose strides are plain: what a capturer works out for those of a view may bind free sizes."""
    return tensor.clone(memory_format=torch.contiguous_format)
