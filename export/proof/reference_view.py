"""A network as the NumPy reference knows it: its description and its weights, or that it cannot be known.

Rules of this file: nothing is computed here; whether a network is one of this house is decided by the classes of all
that is in it and by its weights' names and shapes, never by what it gives.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...model.network import CELLS, SequenceModel
from ...model.stack import RecurrentStack
from ..stack_network import StackNetwork
from .compare import Array


def reference_view(network: nn.Module) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """Return (description, weights) by which the NumPy reference knows the network, or None where it cannot.

    A head of somebody's own, a subclass with another forward, a hook or a weight norm makes another network of it.
    """
    weights = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    if isinstance(network, SequenceModel):
        description = network.describe()
        return (description, weights) if _is_described(network, description) else None
    if not isinstance(network, StackNetwork):
        return None
    stack_description = _describe_stack(network.stack)
    if stack_description is None or not _is_described(network.stack, stack_description):
        return None
    return stack_description, {name.replace("stack.", "stacks.0.", 1): array for name, array in weights.items()}


def _describe_stack(stack: RecurrentStack) -> dict[str, Any] | None:
    """See a bare stack as the network without front and head that it is, if its cell is one of this house."""
    first = stack.layers[0]
    cell = type(first.cell)
    if CELLS.get(cell.__name__) is not cell or (stack.num_directions == 1 and first.reverse):
        return None
    return {
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


def _is_described(found: SequenceModel | RecurrentStack, description: Mapping[str, Any]) -> bool:
    """Whether the network that the description makes is the same but for the values of its weights."""
    try:
        with torch.device("meta"):
            made = SequenceModel.from_description(description)
    except (ValueError, TypeError):  # a cell or a front of somebody's own
        return False
    expected = made if isinstance(found, SequenceModel) else made.stacks[0]
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in found.modules())  # noqa: SLF001 - torch asks no other way
    return not hooked and _form(found) == _form(expected)


def _form(module: nn.Module) -> tuple[dict[str, type], dict[str, torch.Size]]:
    kinds = {path: type(part) for path, part in module.named_modules()}
    return kinds, {name: tensor.shape for name, tensor in module.state_dict().items()}
