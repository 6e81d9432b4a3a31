"""A network as the NumPy reference knows it: its description and its weights, or that it cannot be known.

Rules of this file: nothing is computed here; whether a network is one of this house is decided by its class and by the
classes of its cells, never by what it gives.
"""

from typing import Any

from torch import nn

from ..model.network import CELLS, SequenceModel
from ..model.stack import RecurrentStack
from .compare import Array
from .exportable import StackNetwork


def reference_view(network: nn.Module) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """Return (description, weights) by which the NumPy reference knows the network, or None where it cannot."""
    weights = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    if isinstance(network, SequenceModel):
        return (network.describe(), weights) if network.cell_name in CELLS else None
    return _stack_view(network.stack, weights) if isinstance(network, StackNetwork) else None


def _stack_view(stack: RecurrentStack, weights: dict[str, Array]) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """See a bare stack as the network without front and head that it is, if its cell is one of this house."""
    first = stack.layers[0]
    cell = type(first.cell)
    if CELLS.get(cell.__name__) is not cell or (stack.num_directions == 1 and first.reverse):
        return None
    description = {
        "input_dim": stack.input_dim,
        "hidden_dim": [max(stack.state_widths)],
        "output_dim": None,
        "cell": cell.__name__,
        "num_layers": stack.num_layers,
        "bidirectional": stack.num_directions > 1,
        "dropout": 0.0,
        "front": None,
        "front_dim": None,
        "reads": "every_step",
        "cell_options": stack.cell_options,
    }
    return description, {name.replace("stack.", "stacks.0.", 1): array for name, array in weights.items()}
