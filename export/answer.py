"""What a foreign module's ``forward`` returns: the tensor that a bundle answers with, and what it leaves out.

Rules of this file: the first tensor is the answer; which of the others are states is told by their values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import AnswerError
from .input_probe import example

if TYPE_CHECKING:
    from .foreign_network import ForeignNetwork


def first_tensor(result: Any, name: str) -> Tensor:
    """Return the tensor, or the first of a tuple.

    Raises:
        AnswerError: it is neither.
    """
    first = result[0] if isinstance(result, tuple | list) and len(result) > 0 else result
    if isinstance(first, Tensor):
        return first
    found = type(result).__name__
    found = found if first is result else f"a {found} of {type(first).__name__}"
    raise AnswerError(
        f"{name}.forward returns {found}, expected a tensor, or a tuple whose first is one; give a factory "
        "that returns a module around it whose forward hands on that tensor alone"
    )


def tensors_in(result: Any) -> Iterator[Tensor]:
    """Yield every tensor of a result in order, however deep in tuples, lists and dicts."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list | dict):
        for part in result.values() if isinstance(result, dict) else result:
            yield from tensors_in(part)


@torch.no_grad()
def count_left_out(network: ForeignNetwork, module: nn.Module) -> int:
    """Return how many tensors the module as it came returns beside its answer, without the states that are carried."""
    x = example(network, network.probe_steps[0])
    network.call(x)
    carried = [tensor for tensors in network.carry.final.values() for tensor in tensors] * network.carries_state
    network.call_as_it_came(module, x)
    _, *further = network.returned
    network.returned = ()
    return sum(not any(_same(tensor, state) for state in carried) for tensor in further)


def _same(one: Tensor, two: Tensor) -> bool:
    """Whether the numbers are the same, but for rounding, however laid out in axes of one."""
    if one.numel() != two.numel() or not one.is_floating_point():
        return False
    return torch.allclose(one.flatten(), two.flatten(), rtol=1e-4, atol=1e-5)
