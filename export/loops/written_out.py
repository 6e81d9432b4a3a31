"""torch's recurrent layers written out over all steps, so that a loop beside them in ``forward`` can be rolled up.

Whoever has an nn.LSTM as encoder and loops over a cell as decoder has two loops, and only one is in sight. Written out,
the layer's own is found like the other; and the whole is proved against the module as it came (proof.py).

Rules of this file: the equations of a step are in steps/written_layer.py; here is the loop around them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedLayerError
from ..steps.written_layer import WrittenLayer, given_states, with_layers


class WrittenOut(WrittenLayer):
    """The layer's place and weights, and its call for a batch of sequences."""

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:  # noqa: A002 - torch's names
        """Take input [B, T, I] where batch first, else [T, B, I]."""
        if input.dim() != 3:  # noqa: PLR2004 - rows, steps, features
            raise UnsupportedLayerError("a recurrent layer beside a loop was given no batch of sequences")
        time = 1 if self.batch_first else 0
        state = given_states(hx)
        directions = 2 if self.bidirectional else 1
        finals: list[list[Tensor]] = [[] for _ in range(self.states)]
        for layer in range(self.num_layers):
            said = []
            for direction in range(directions):
                k = layer * directions + direction
                steps = list(input.unbind(time))[:: -1 if direction else 1]
                suffix = f"_l{layer}" + "_reverse" * direction
                # Zeros of a weight: made of a step, they would seem to depend on that.
                zeros = self.zeros(self.weights(suffix)[0], steps[0].size(0))
                own, outputs = [t[k] for t in state] or zeros, []
                for step in steps:
                    own = self.step(self, step, own, suffix)
                    outputs.append(own[0])
                said.append(torch.stack(outputs[:: -1 if direction else 1], time))
                for kept, tensor in zip(finals, own, strict=True):
                    kept.append(tensor)
            input = said[0] if directions == 1 else torch.cat(said, -1)  # noqa: A001 - of the next layer
        final = [torch.stack(kept, 0) for kept in finals]
        return input, final[0] if self.states == 1 else tuple(final)


def written_out(module: nn.Module) -> nn.Module:
    """Return a copy of a module with torch's recurrent layers written out."""
    return with_layers(module, WrittenOut)
