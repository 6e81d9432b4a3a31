"""Cells, the layer that loops them over time, stacks, whole networks, their weights, and a float64 reference.

Here lives what a recurrent network computes. This folder must not know ONNX, file formats other than weights, or
serving. Names are loaded on first use, so that the NumPy reference can be imported without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cell import CellError
    from .checkpoint import network_from_checkpoint
    from .gru_cell import GRUCell
    from .layer import LSTMLayer
    from .lstm_cell import CoupledLSTMCell, LSTMCell, PeepholeLSTMCell
    from .network import SequenceModel
    from .normalised_cell import LayerNormLSTMCell, ProjectedLSTMCell
    from .reference import run_reference
    from .stack import RecurrentStack
    from .torch_weights import cell_from_torch, cell_to_torch, stack_from_torch, stack_to_torch
    from .weight_file import WeightsError
    from .weights import load_network, load_weights, save_network

_HOME = {
    "CellError": "cell",
    "CoupledLSTMCell": "lstm_cell",
    "GRUCell": "gru_cell",
    "LSTMCell": "lstm_cell",
    "LSTMLayer": "layer",
    "LayerNormLSTMCell": "normalised_cell",
    "PeepholeLSTMCell": "lstm_cell",
    "ProjectedLSTMCell": "normalised_cell",
    "RecurrentStack": "stack",
    "SequenceModel": "network",
    "WeightsError": "weight_file",
    "cell_from_torch": "torch_weights",
    "cell_to_torch": "torch_weights",
    "load_network": "weights",
    "load_weights": "weights",
    "network_from_checkpoint": "checkpoint",
    "run_reference": "reference",
    "save_network": "weights",
    "stack_from_torch": "torch_weights",
    "stack_to_torch": "torch_weights",
}

__all__ = [
    "CellError",
    "CoupledLSTMCell",
    "GRUCell",
    "LSTMCell",
    "LSTMLayer",
    "LayerNormLSTMCell",
    "PeepholeLSTMCell",
    "ProjectedLSTMCell",
    "RecurrentStack",
    "SequenceModel",
    "WeightsError",
    "cell_from_torch",
    "cell_to_torch",
    "load_network",
    "load_weights",
    "network_from_checkpoint",
    "run_reference",
    "save_network",
    "stack_from_torch",
    "stack_to_torch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
