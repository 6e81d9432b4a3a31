"""A stack of recurrent layers that stands alone, behind the call of whole networks."""

import torch
from torch import Tensor, nn

from ..model.network import StateTensor
from ..model.stack import RecurrentStack


class StackNetwork(nn.Module):
    """A stack or a layer without front and head, called as whole networks are."""

    def __init__(self, stack: RecurrentStack) -> None:
        super().__init__()
        self.stack = stack
        self.input_dim = stack.input_dim
        self.output_dim = stack.output_dim

    @torch.jit.unused
    def state_tensors(self) -> tuple[StateTensor, ...]:
        """Return the state of the stack, in its order."""
        rows = self.stack.num_layers * self.stack.num_directions
        return tuple(StateTensor(name=name, rows=rows, width=width) for name, width in self.stack.state_spec)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """As SequenceModel.forward, reading every step."""
        return self.stack(x, state, lengths)  # type: ignore[no-any-return]
