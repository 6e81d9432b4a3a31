"""A module that takes one step, behind a call of this house: (x [B, I], state tensors) -> (y [B, O], state tensors).

Rules of this file: a stranger's code runs here; how it is called is in the form, and nothing is tried.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..foreign.answer import tensors_of
from .step_form import StepForm
from .widened_views import ViewsWidened


class StepCall(nn.Module):
    """The module, called for one step.

    Args:
        module: as it came, or with layers exchanged that change no call.
        form: how it is called.
    """

    def __init__(self, module: nn.Module, form: StepForm) -> None:
        super().__init__()
        self.module = module
        self.form = form

    def forward(self, x: Tensor, leaves: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Take a step.

        Args:
            x: a step [B, I], or tokens [B].
            leaves: the state, shaped as the module takes it, but with B rows also where it takes one.

        Returns:
            (y [B, O], the state).
        """
        if not self.form.one_row:
            return self.take(x, leaves)
        with ViewsWidened(x.size(0)):
            return self.take(x, leaves)

    def take(self, x: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Take a step in one call of the module, as many rows as it takes."""
        given = tensors_of(call(self.module, self.form, x, leaves))
        answer = given[self.form.answer]
        return answer.reshape(x.size(0), self.form.output_dim), [given[number] for number in self.form.states]

    def step_by_step(self, x: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return y [B, T, O] and the final state of the module called by hand, row after row where it takes one."""
        if self.form.one_row and x.size(0) > 1:
            axes = [leaf.axis for leaf in self.form.leaves]
            rows = [
                self.step_by_step(
                    x[k : k + 1], [tensor.narrow(a, k, 1) for tensor, a in zip(leaves, axes, strict=True)]
                )
                for k in range(x.size(0))
            ]
            finals = zip(*(final for _, final in rows), strict=True)
            return torch.cat([y for y, _ in rows]), [torch.cat(t, a) for t, a in zip(finals, axes, strict=True)]
        said, state = [], list(leaves)
        for step in x.unbind(1):
            y, state = self.take(step, state)
            said.append(y)
        return torch.stack(said, 1), state


def call(module: nn.Module, form: StepForm, x: Tensor, leaves: Sequence[Tensor]) -> Any:
    """Return what the module gives for a step and a state, as it gives it."""
    named = form.keywords(x, leaves)
    ordered = [named.pop(name) for name in form.arguments.positional if name in named]
    return module(*ordered, **named)
