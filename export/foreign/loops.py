"""A foreign module with recurrent layers and, beside them, a loop over time in its own forward: both are rolled up.

Rules of this file: whether there is such a loop is seen on runs; where it cannot be rolled up, the layers are exchanged
as if there were none, and the capture says what is wrong, unless the loop calls a layer.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import ExportError
from .exchanged_layer import ExchangedLayer
from .input_trial import example
from .network import ForeignNetwork


def foreign_network(
    module: nn.Module, told: Mapping[str, str] | None, input_dim: int | None, answer: str | None
) -> ForeignNetwork:
    """Return the network of a module, its arguments as those of ForeignNetwork.

    Raises:
        ExportError: one of its classes.
    """
    network = ForeignNetwork(module, told, input_dim, answer)
    has_layers = any(isinstance(child, nn.RNNBase) for child in module.modules())
    if not has_layers or not _loops_beside_layers(network):
        return network
    width, takes_tokens = network.input_dim, network.takes_tokens
    try:
        return ForeignNetwork(module, told, width, answer, takes_tokens=takes_tokens, writes_out=True)
    except ExportError:
        if _runs_layers_in_a_loop(network):
            raise  # it says why; the capture could only say that time is frozen
        return network


@torch.no_grad()
def _runs_layers_in_a_loop(network: ForeignNetwork) -> bool:
    """Whether a recurrent layer is called more often for more steps, so that its loop is not its own."""
    found = []
    for steps in network.probe_steps:
        network.call(example(network, steps))
        found.append(dict(network.carry.calls))
    return found[0] != found[1]


@torch.no_grad()
def _loops_beside_layers(network: ForeignNetwork) -> bool:
    """Whether the module, outside of its exchanged layers, calls torch more often for more steps."""
    found = []
    for steps in network.probe_steps:
        counter = _CallsOutside()
        handles = [
            handle
            for layer in network.module.modules()
            if isinstance(layer, ExchangedLayer)
            for handle in counter.left_out(layer)
        ]
        try:
            x = example(network, steps)
            with counter:
                network.call(x)
        finally:
            for handle in handles:
                handle.remove()
        found.append(counter.calls)
    network.returned = ()  # nobody asks for it any more
    return found[0] != found[1]


class _CallsOutside(TorchFunctionMode):
    """While entered, counts the calls of torch's functions but those inside of some modules."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self._inside = 0, 0

    def left_out(self, layer: nn.Module) -> tuple[Any, Any]:
        """Leave out the calls of a module; returns what undoes it."""

        def enter(*_: object) -> None:
            self._inside += 1

        def leave(*_: object) -> None:
            self._inside -= 1

        return layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, and count it."""
        del types
        self.calls += not self._inside
        return func(*args, **(kwargs or {}))
