"""The fused recurrent layers as torch operators that stand for ONNX ``LSTM`` and ``GRU`` in an exported program.

A loop that a graph capturer walks through is unrolled; an operator that it meets is kept. So a fused layer calls one of
the operators here, which exist in graphs only: a shape rule for the capture, a translation to one ONNX node, and no
arithmetic. The arithmetic that the node must reproduce is the layer's own loop, and ``verify`` compares the two.

Source: ONNX operators LSTM-14 and GRU-14; gate order in W, R, B is i, o, f, c and z, r, h.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from onnxscript import opset18 as op
from torch import Tensor

# Pinned, and why: 18 is the set in which PyTorch's exporter writes, so nothing is converted afterwards, and its
# LSTM-14, GRU-14 and Scan-16 are known to every execution provider of onnxruntime; newer ones fall to the CPU silently.
OPSET: Final = 18

_ONNX_ACTIVATION: Final[Mapping[str, str]] = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "hard_sigmoid": "HardSigmoid",
    "softsign": "Softsign",
}
_LSTM_DEFAULT: Final = "sigmoid,tanh,tanh"
_GRU_DEFAULT: Final = "sigmoid,tanh"


@torch.library.custom_op("cellgate::lstm", mutates_args=())
def lstm(
    x: Tensor,
    lengths: Tensor | None,
    h0: Tensor,
    c0: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor,
    p: Tensor | None,
    direction: str,
    activations: str,
    input_forget: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Stand for one ONNX LSTM node.

    Args:
        x: float32 [T, B, I].
        lengths: int32 [B], or None for all T.
        h0: float32 [D, B, H].
        c0: likewise.
        w: [D, 4H, I].
        r: [D, 4H, H].
        b: [D, 8H].
        p: [D, 3H], or None without peepholes.
        direction: "forward", "reverse" or "bidirectional".
        activations: three names of model.cell.ACTIVATIONS (gates, cell gate, cell state), joined by commas, the same
            for each direction.
        input_forget: 1 couples the gates, f = 1 - i.

    Returns:
        (y [T, B, D*H], the directions side by side; h [D, B, H], c [D, B, H]).
    """
    raise NotImplementedError("cellgate::lstm exists in exported graphs only")


@lstm.register_fake
def _(x: Tensor, lengths: Tensor | None, h0: Tensor, c0: Tensor, w: Tensor, r: Tensor, *rest: object) -> Any:  # noqa: ARG001
    y = x.new_empty(x.shape[0], x.shape[1], w.shape[0] * r.shape[2])
    return y, torch.empty_like(h0), torch.empty_like(c0)


@lstm.register_vmap
def _(info: Any, in_dims: Any, x: Tensor, lengths: Tensor | None, h0: Tensor, c0: Tensor, *rest: Any) -> Any:
    rows = info.batch_size
    sequence, counts = _fold(x, in_dims[0], 1, rows), _fold_lengths(lengths, in_dims[1], rows)
    state = [_fold(tensor, mapped, 1, rows) for tensor, mapped in zip((h0, c0), in_dims[2:4], strict=True)]
    found = torch.ops.cellgate.lstm(sequence, counts, *state, *rest)
    return tuple(tensor.unflatten(1, (rows, -1)) for tensor in found), (1, 1, 1)


@torch.library.custom_op("cellgate::gru", mutates_args=())
def gru(
    x: Tensor,
    lengths: Tensor | None,
    h0: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor,
    direction: str,
    activations: str,
    linear_before_reset: int,
) -> tuple[Tensor, Tensor]:
    """Stand for one ONNX GRU node: shapes as in ``lstm`` with w [D, 3H, I], r [D, 3H, H], b [D, 6H]; returns (y, h)."""
    raise NotImplementedError("cellgate::gru exists in exported graphs only")


@gru.register_fake
def _(x: Tensor, lengths: Tensor | None, h0: Tensor, w: Tensor, r: Tensor, *rest: object) -> Any:  # noqa: ARG001
    return x.new_empty(x.shape[0], x.shape[1], w.shape[0] * r.shape[2]), torch.empty_like(h0)


@gru.register_vmap
def _(info: Any, in_dims: Any, x: Tensor, lengths: Tensor | None, h0: Tensor, *rest: Any) -> Any:
    rows = info.batch_size
    sequence, counts = _fold(x, in_dims[0], 1, rows), _fold_lengths(lengths, in_dims[1], rows)
    found = torch.ops.cellgate.gru(sequence, counts, _fold(h0, in_dims[2], 1, rows), *rest)
    return tuple(tensor.unflatten(1, (rows, -1)) for tensor in found), (1, 1)


def _fold(tensor: Tensor, mapped: int | None, axis: int, rows: int) -> Tensor:
    """Join the rows over which a module is mapped (foreign/network.py) with the batch that it sees, at ``axis``."""
    if mapped is None:  # the same for all rows, as zeros are that the module made itself
        sizes = [-1] * (tensor.dim() + 1)
        sizes[axis] = rows
        return tensor.unsqueeze(axis).expand(sizes).flatten(axis, axis + 1)
    return tensor.movedim(mapped, axis).flatten(axis, axis + 1)


def _fold_lengths(lengths: Tensor | None, mapped: int | None, rows: int) -> Tensor | None:
    return None if lengths is None else _fold(lengths, mapped, 0, rows)


def _activation_attributes(activations: str, default: str, direction: str) -> dict[str, Any]:
    """Return the node's attributes for activations that are not the operator's own defaults."""
    if activations == default:
        return {}
    names = activations.split(",") * (2 if direction == "bidirectional" else 1)
    attributes: dict[str, Any] = {"activations": [_ONNX_ACTIVATION[name] for name in names]}
    hard = names.count("hard_sigmoid")
    if hard:  # torch's slope is 1/6, ONNX's default 0.2; the lists hold one entry for each activation that takes one
        attributes |= {"activation_alpha": [1.0 / 6.0] * hard, "activation_beta": [0.5] * hard}
    return attributes


def _lstm_node(
    x: Any,
    lengths: Any,
    h0: Any,
    c0: Any,
    w: Any,
    r: Any,
    b: Any,
    p: Any,
    direction: str,
    activations: str,
    input_forget: int,
) -> Any:
    attributes = _activation_attributes(activations, _LSTM_DEFAULT, direction)
    if input_forget:
        attributes["input_forget"] = 1
    H = int(r.shape[2])
    y, h, c = op.LSTM(x, w, r, b, lengths, h0, c0, p, direction=direction, hidden_size=H, **attributes)
    return _directions_side_by_side(y, direction), h, c


def _gru_node(
    x: Any,
    lengths: Any,
    h0: Any,
    w: Any,
    r: Any,
    b: Any,
    direction: str,
    activations: str,
    linear_before_reset: int,
) -> Any:
    attributes = _activation_attributes(activations, _GRU_DEFAULT, direction)
    attributes |= {"hidden_size": int(r.shape[2]), "linear_before_reset": linear_before_reset}
    y, h = op.GRU(x, w, r, b, lengths, h0, direction=direction, **attributes)
    return _directions_side_by_side(y, direction), h


def _directions_side_by_side(y: Any, direction: str) -> Any:
    """Bring the node's [T, D, B, H] to [T, B, D*H], with as few nodes as it takes."""
    if direction != "bidirectional":
        axis: Any = op.Constant(value_ints=[1])
        return op.Squeeze(y, axis)
    shape: Any = op.Constant(value_ints=[0, 0, -1])  # 0 keeps an axis as it is, so no shape has to be computed
    return op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), shape)


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what torch.onnx.export takes as custom_translation_table."""
    return {torch.ops.cellgate.lstm.default: _lstm_node, torch.ops.cellgate.gru.default: _gru_node}
