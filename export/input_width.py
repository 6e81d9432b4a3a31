"""The width of a layer's input, read off a cell that need not declare it."""

from typing import Final

from torch import nn

from ..model.cell import state_spec_of
from ..model.layer import LSTMLayer
from .errors import UnsupportedLayerError

_MATRIX_RANK: Final = 2


def input_dim_of(layer: LSTMLayer) -> int:
    """Return I of a layer: declared by its cell as ``input_dim``, or read off its matrices.

    Raises:
        UnsupportedLayerError: neither tells.
    """
    declared = getattr(layer.cell, "input_dim", None)
    if isinstance(declared, int):
        return declared
    for module in layer.cell.modules():
        if isinstance(module, nn.Linear) and module is not layer.cell:
            widths = {width for _, width in state_spec_of(layer.cell)}
            # The first linear map is the input's by convention; a joint one takes input and hidden side by side.
            joint = len([m for m in layer.cell.modules() if isinstance(m, nn.Linear)]) == 1
            return module.in_features - max(widths) if joint else module.in_features
    raise UnsupportedLayerError(
        f"{type(layer.cell).__name__} does not tell the width of its input; set self.input_dim in its constructor"
    )


def input_candidates(module: nn.Module) -> list[tuple[bool, int]]:
    """Return (takes tokens, width) for each layer that could be a module's first, in order of registration."""
    found: list[tuple[bool, int]] = []
    for layer in module.modules():
        if isinstance(layer, nn.Embedding):
            found.append((True, layer.num_embeddings))
        elif isinstance(layer, nn.Linear):
            found.append((False, layer.in_features))
        elif isinstance(layer, nn.Conv1d):
            found.append((False, layer.in_channels))
        elif isinstance(layer, nn.LayerNorm):
            found.append((False, int(layer.normalized_shape[-1])))
        elif isinstance(layer, nn.BatchNorm1d):
            found.append((False, layer.num_features))
        elif hasattr(layer, "input_dim") and hasattr(layer, "state_spec"):
            found.append((False, int(layer.input_dim)))  # type: ignore[arg-type] # a stack's or a cell's own number
        elif isinstance(layer, nn.RNNCellBase):
            found.append((False, layer.input_size))
    return list(dict.fromkeys(found))


def loop_candidates(module: nn.Module) -> list[tuple[bool, int]]:
    """Return ``input_candidates`` and, for cells written out, the sides of matrices, and of joint ones what is left."""
    matrices = [tuple(p.shape) for p in module.parameters() if p.dim() == _MATRIX_RANK]
    sides = list(dict.fromkeys(side for shape in matrices for side in shape))
    joint = [large - small for large in sides for small in sides if large > small]
    widths = [(False, width) for width in (*sides, *joint)]
    return list(dict.fromkeys([*input_candidates(module), *widths]))
