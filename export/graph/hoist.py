"""Move work out of the loop: what a Scan computes from its input alone is computed for all steps at once before it.

A step of a recurrent cell multiplies its input by a matrix, whatever the state is. One product over all steps runs many
times as fast as one product a step. Three passes, each of which leaves the outputs as they are but for rounding:

1. ``turn_scans``: a Scan over a reversed copy becomes a Scan that runs backwards.
2. ``hoist_projections``: products with constants, and what follows from them row by row, move before the Scan.
3. ``join_projections``: in the loop, ``hoisted + Gemm(h, R, b)`` becomes ``Gemm(h, R, hoisted)``, b added outside.

Pre-condition: Scans slice axis 0, as this house's do; others are left alone.
Post-condition: the same number of Scans; none holds a product of a scan input with a constant.
"""

import onnx

from .graph_view import GraphView, attribute_of, drop_unread, replace_nodes, set_attribute
from .scan_edit import ScanEdit

_BACKWARDS = (-1, -(2**63), 0, -1)  # starts, ends, axes, steps of a Slice that reverses axis 0
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_ROW_BY_ROW = frozenset({"Add", "Sub", "Mul", "Div", "Relu", "Sigmoid", "Tanh", "LayerNormalization"})
_INPUT_RANK = 2  # [B, width]


def hoist(graph: onnx.GraphProto) -> None:
    """Run the three passes on every Scan of the graph."""
    turn_scans(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Scan" and _slices_axis_zero(node):
            edit = ScanEdit(graph, node)
            hoist_projections(edit)
            join_projections(edit)
            edit.drop_unread_inputs()
            nodes += edit.before
        nodes.append(node)
    replace_nodes(graph, nodes)
    drop_unread(graph)


def _slices_axis_zero(scan: onnx.NodeProto) -> bool:
    return not any(attribute_of(scan, "scan_input_axes", [])) and not any(attribute_of(scan, "scan_output_axes", []))


def turn_scans(graph: onnx.GraphProto) -> None:
    """Let Scans read and write backwards where a Slice reversed their input or output."""
    view = GraphView(graph)
    flips = {node.input[0]: node for node in graph.node if _is_flip(view, node)}
    spared: list[onnx.NodeProto] = []
    for scan in [node for node in graph.node if node.op_type == "Scan" and _slices_axis_zero(node)]:
        states = len(scan.input) - attribute_of(scan, "num_scan_inputs")
        directions = list(attribute_of(scan, "scan_input_directions", [])) or [0] * (len(scan.input) - states)
        for k, name in enumerate(scan.input[states:]):
            flip = view.producer(name, "Slice")
            if flip is not None and _is_flip(view, flip):
                scan.input[states + k] = flip.input[0]
                directions[k] = 1 - directions[k]
        set_attribute(scan, "scan_input_directions", directions)
        directions = list(attribute_of(scan, "scan_output_directions", [])) or [0] * (len(scan.output) - states)
        for k, name in enumerate(scan.output[states:]):
            if name in flips and view.readers(name) == 1:
                scan.output[states + k] = flips[name].output[0]
                spared.append(flips[name])
                directions[k] = 1 - directions[k]
        if directions:
            set_attribute(scan, "scan_output_directions", directions)
    replace_nodes(graph, [node for node in graph.node if node not in spared])
    drop_unread(graph)


def _is_flip(view: GraphView, node: onnx.NodeProto) -> bool:
    if node.op_type != "Slice" or len(node.input) != 1 + len(_BACKWARDS):
        return False
    return all(view.holds(name, value) for name, value in zip(node.input[1:], _BACKWARDS, strict=True))


def hoist_projections(edit: ScanEdit) -> None:
    """Move what depends on the scan inputs and constants alone, if there is a product among it."""
    free = {name for name in edit.scan_inputs if edit.rank(name) == _INPUT_RANK}
    outputs = {value.name for value in edit.body.output}
    movable: list[onnx.NodeProto] = []
    for node in edit.body.node:
        sources = [name for name in node.input if name in free]
        alike = len({edit.direction(name) for name in sources}) == 1
        if alike and node.output[0] not in outputs and _is_movable(edit, node, free):
            free.add(node.output[0])
            edit.note_direction(node.output[0], sources[0])
            movable.append(node)
    if any(node.op_type in _PRODUCTS for node in movable):
        edit.move_out(movable)


def _is_movable(edit: ScanEdit, node: onnx.NodeProto, free: set[str]) -> bool:
    """Whether a node gives for all steps at once, row by row, what it gives for each."""
    constants = [edit.view.constant(name) for name in node.input if name and name not in free]
    ranks = [None if value is None else value.ndim for value in constants]
    if node.op_type == "Gemm":
        plain = attribute_of(node, "alpha", 1.0) == attribute_of(node, "beta", 1.0) == 1.0
        return plain and not attribute_of(node, "transA", 0) and node.input[0] in free and ranks in ([2], [2, 1])
    if node.op_type == "MatMul":
        return node.input[0] in free and ranks == [2]
    if node.op_type == "LayerNormalization" and attribute_of(node, "axis", -1) != -1:
        return False
    return node.op_type in _ROW_BY_ROW and len(node.output) == 1 and all(rank in {0, 1} for rank in ranks)


def join_projections(edit: ScanEdit) -> None:
    """Let the product with the state start from the hoisted one, which spares the loop an addition."""
    view = GraphView(edit.body)
    spared: list[onnx.NodeProto] = []
    for add in [node for node in edit.body.node if node.op_type == "Add"]:
        for hoisted, product in (tuple(add.input), tuple(reversed(add.input))):
            gemm = view.producer(product, "Gemm")
            if hoisted not in edit.hoisted or gemm is None or view.readers(product) + view.readers(hoisted) != 2:  # noqa: PLR2004 - each read once, here
                continue
            bias = gemm.input[2] if len(gemm.input) > 2 else ""  # noqa: PLR2004 - A, B, C
            offset = edit.view.constant(bias) if bias else None
            if attribute_of(gemm, "alpha", 1.0) != 1.0 or attribute_of(gemm, "beta", 1.0) != 1.0:
                continue
            if bias and (offset is None or offset.ndim != 1):
                continue
            if bias:
                edit.add_outside(hoisted, bias)
            gemm.input[:] = [*gemm.input[:2], hoisted]
            gemm.output[0] = add.output[0]
            spared.append(add)
            break
    replace_nodes(edit.body, [node for node in edit.body.node if node not in spared])
