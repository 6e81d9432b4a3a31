"""Two small passes that spare the runtime work around the recurrent operators.

``read_last_state``: the output at a row's last real step is the final hidden state that a forward operator returns
anyway, bit for bit; reading that spares a transpose and a gather over all steps.

``spare_zeros``: ``Where(c, a, zeros like a)`` is ``Where(c, a, 0)``, without computing a shape and filling it.

Post-condition of both: the same outputs, bit for bit, and no more nodes than before.
"""

import onnx

from .graph_view import GraphView, attribute_of, drop_unread

_INT64 = onnx.TensorProto.INT64
_STATE_OUTPUT = 1  # of LSTM and GRU: Y, Y_h, Y_c
_LENGTHS_INPUT = 4  # of LSTM and GRU: X, W, R, B, sequence_lens


def read_last_state(graph: onnx.GraphProto) -> None:
    """Read Y_h where a graph gathers Y at lengths - 1."""
    view = GraphView(graph)
    for squeeze in graph.node:
        if not _squeezes_axis_one(view, squeeze):
            continue
        gather = view.producer(squeeze.input[0], "GatherElements")
        if gather is None or attribute_of(gather, "axis") != 1:
            continue
        recurrent = _forward_operator_of(view, gather.input[0])
        if recurrent is not None and _is_last_index(view, gather.input[1], recurrent.input[_LENGTHS_INPUT]):
            zero = next((t.name for t in graph.initializer if view.holds(t.name, 0) and list(t.dims) == [1]), None)
            if zero is None:
                zero = "axis_of_directions"
                graph.initializer.append(onnx.helper.make_tensor(zero, _INT64, [1], [0]))
            squeeze.input[:] = [recurrent.output[_STATE_OUTPUT], zero]
    drop_unread(graph)


def _forward_operator_of(view: GraphView, name: str) -> onnx.NodeProto | None:
    """Return the forward LSTM or GRU whose Y, batch first, ``name`` is."""
    transpose = view.producer(name, "Transpose")
    squeeze = view.producer(transpose.input[0], "Squeeze") if transpose is not None else None
    if transpose is None or squeeze is None or list(attribute_of(transpose, "perm")) != [1, 0, 2]:
        return None
    recurrent = view.producer(squeeze.input[0], "LSTM") or view.producer(squeeze.input[0], "GRU")
    if recurrent is None or not _squeezes_axis_one(view, squeeze) or recurrent.output[0] != squeeze.input[0]:
        return None
    is_forward = attribute_of(recurrent, "direction", b"forward") == b"forward"
    has_lengths = len(recurrent.input) > _LENGTHS_INPUT and recurrent.input[_LENGTHS_INPUT] != ""
    return recurrent if is_forward and has_lengths and len(recurrent.output) > _STATE_OUTPUT else None


def _squeezes_axis_one(view: GraphView, node: onnx.NodeProto) -> bool:
    return node.op_type == "Squeeze" and len(node.input) == 2 and view.holds(node.input[1], 1)  # noqa: PLR2004 - data, axes


def _is_last_index(view: GraphView, name: str, lengths: str) -> bool:
    """Whether ``name`` is lengths - 1, spread over [B, 1, H]."""
    expand = view.producer(name, "Expand")
    reshape = view.producer(expand.input[0], "Reshape") if expand is not None else None
    less_one = view.producer(reshape.input[0], "Sub") if reshape is not None else None
    if less_one is None or reshape is None or not view.holds(reshape.input[1], -1, 1, 1):
        return False
    cast = view.producer(less_one.input[0], "Cast")
    counted = cast.input[0] if cast is not None else less_one.input[0]
    return counted == lengths and view.holds(less_one.input[1], 1)


def spare_zeros(graph: onnx.GraphProto) -> None:
    """Let Where broadcast a scalar itself."""
    view = GraphView(graph)
    for where in graph.node:
        expand = view.producer(where.input[2], "Expand") if where.op_type == "Where" else None
        shape = view.producer(expand.input[1], "Shape") if expand is not None else None
        if expand is None or shape is None or shape.input[0] != where.input[1]:
            continue
        scalar = view.constant(expand.input[0])
        if scalar is not None and scalar.ndim == 0 and not attribute_of(shape, "start", 0):
            where.input[2] = expand.input[0]
    drop_unread(graph)
