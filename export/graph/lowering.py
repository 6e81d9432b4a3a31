"""Lower a network's recurrent layers to forms in which a captured graph keeps time free.

Every stack is exchanged in a copy of the network (a layer that stands alone came here as a stack of one:
exportable.py): for fused operators where the cell is recognised (recognise.py), else for a scan over the cell itself.
Interfaces stay, so whatever module contains the stacks does not notice. The original is not touched.

Rules of this file: post-condition of ``lower``: no RecurrentStack is left; weights are copied once, in ONNX gate order.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from ...model.cell import name_of
from ...model.layer import LSTMLayer
from ...model.stack import RecurrentStack
from ..errors import UnsupportedLayerError
from ..input_width import input_dim_of
from .fused_form import FusedForm, pack_weights
from .graph_layers import FusedLayer, GraphStack, ScanLayer
from .recognise import recognise

__all__ = ["LoweredLayer", "lower", "pack_weights"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoweredLayer:
    """What became of one layer (both its directions): its place in the network, and the operator that runs it."""

    path: str
    cell: str
    operator: str  # "LSTM", "GRU" or "Scan"


def lower(
    network: nn.Module, can_fuse: Callable[[FusedForm], bool] = lambda _: True
) -> tuple[nn.Module, tuple[LoweredLayer, ...]]:
    """Return a copy of ``network`` whose recurrent layers are graph forms, and what became of each layer.

    Args:
        network: not changed.
        can_fuse: whether a form that was recognised may be a fused operator; else it becomes a scan.

    Raises:
        UnsupportedLayerError: a recurrent layer of torch is left that this house cannot exchange.
    """
    holder = nn.ModuleDict({"network": copy.deepcopy(network).eval()})  # so that a bare layer has a parent as well
    report: list[LoweredLayer] = []
    made: dict[nn.Module, nn.Module] = {}  # a layer that stands at several places is one node's weights, and one form
    done: list[str] = []
    for path, module in list(holder.named_modules(remove_duplicate=False)):
        if any(path.startswith(outer + ".") for outer in done):
            continue
        place = path.removeprefix("network").removeprefix(".") or "network"
        if isinstance(module, nn.RNNBase):
            raise UnsupportedLayerError(
                f"{place} is a {type(module).__name__}, expected nn.LSTM, nn.GRU or a cell's layer"
            )
        if isinstance(module, RecurrentStack):
            if module not in made:
                made[module] = _lower_stack(module, place, report, can_fuse)
            parent, _, name = path.rpartition(".")
            holder.get_submodule(parent).add_module(name, made[module])
            done.append(path)
    return holder["network"], tuple(report)


def _lower_stack(
    module: RecurrentStack, path: str, report: list[LoweredLayer], can_fuse: Callable[[FusedForm], bool]
) -> nn.Module:
    layers = [layer for layer in module.layers if isinstance(layer, LSTMLayer)]
    lowered: list[nn.Module] = []
    for first in range(0, len(layers), module.num_directions):
        lowered += _lower_layers(
            layers[first : first + module.num_directions], f"{path}.{first // module.num_directions}", report, can_fuse
        )
    return GraphStack(lowered, module)


def _lower_layers(
    pair: Sequence[LSTMLayer], path: str, report: list[LoweredLayer], can_fuse: Callable[[FusedForm], bool]
) -> list[nn.Module]:
    """Lower the directions of one layer: one fused operator for both, or a scan for each."""
    forms = [recognise(layer.cell, input_dim_of(layer)) for layer in pair]
    fused = [form for form in forms if form is not None and forms[0] is not None and can_fuse(form)]
    can_be_one_node = len(fused) == len(pair) and len({form.attributes for form in fused}) == 1
    operator = fused[0].kind if can_be_one_node else "Scan"
    report.append(LoweredLayer(path=path, cell=name_of(pair[0].cell), operator=operator))
    return [_fuse(pair, fused)] if can_be_one_node else [ScanLayer(layer) for layer in pair]


def _fuse(pair: Sequence[LSTMLayer], forms: Sequence[FusedForm]) -> FusedLayer:
    direction = "bidirectional" if len(pair) > 1 else "reverse" if pair[0].reverse else "forward"
    weights = [pack_weights(layer.cell, form, input_dim_of(layer)) for layer, form in zip(pair, forms, strict=True)]
    return FusedLayer(forms[0], direction, weights)
