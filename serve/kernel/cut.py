"""A network's graph cut into what the project's own kernels compute and what stays with the runtime.

    stages = cut(graph, ...)        each: nodes for the runtime first, then steps of our own

A stage needs only what graph inputs and the stages before it give. A network that is an LSTM with a linear head has no
node left for the runtime; one with something else between its layers gets a small graph of the runtime there.

Rules of this file: pure; it decides by operator, attributes and stored values, and never by a tensor's name. What is
not exactly what a kernel computes stays with the runtime.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from ..arrays import Array
from .graph_reader import Graph, Node, stored_array
from .steps import Concat, Lstm, Product, Split, Squeeze, Stage, Step, Swap
from .wire import field as wire_field
from .wire import integer, text

_SWAPPED: Final = (1, 0, 2)
_LSTM_DEFAULTS: Final = {"direction": b"forward", "input_forget": 0, "layout": 0}


def cut(graph: Graph, floats: Iterable[str], lengths: str | None, fits: Callable[[int], bool]) -> list[Stage]:
    """Cut a graph into stages.

    Args:
        graph: of a network.
        floats: the graph's inputs that are float32.
        lengths: the graph's input of lengths, if it takes any.
        fits: whether the kernel takes a layer of this H.

    Returns:
        The stages in order; none holds an `Lstm` where nothing is to be gained.
    """
    levels, ours = dict.fromkeys(graph.inputs, 0), set(floats)
    stages: dict[int, Stage] = {}
    for node in graph.nodes:
        step = _step(node, graph, lengths, fits)
        if isinstance(step, Squeeze | Split | Concat | Swap) and not ours.issuperset(step.inputs):
            step = None  # arithmetic on shapes looks the same
        needed = step.inputs if step else (*node.inputs, *node.inner)
        level = max((levels[name] for name in needed if name in levels), default=0)
        stage = stages.setdefault(level, Stage())
        if step is None:
            stage.nodes.append(node)
        else:
            stage.steps.append(step)
            ours.update(step.outputs)
        levels.update(dict.fromkeys(node.outputs, level + (step is not None)))
    return [stages[level] for level in sorted(stages)]


def boundary(graph: Graph, stages: Sequence[Stage], place: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (inputs, outputs) of the runtime's part of a stage: what it takes from outside, and others of it."""
    nodes = stages[place].nodes
    made = [name for node in nodes for name in node.outputs if name]
    needed = dict.fromkeys(name for node in nodes for name in (*node.inputs, *sorted(node.inner)))
    known = {*graph.inputs, *_made_elsewhere(stages, place)}
    wanted = {*graph.outputs, *_needed_elsewhere(stages, place)}
    return tuple(name for name in needed if name in known and name not in made), tuple(n for n in made if n in wanted)


def part_of_model(graph: Graph, stage: Stage, inputs: Sequence[tuple[str, int]], outputs: Sequence[str]) -> bytes:
    """Return a model of a stage's nodes alone.

    Args:
        graph: that it is cut from.
        stage: with nodes.
        inputs: (name, ONNX's number of the element type); their shapes are left open.
        outputs: names; the runtime finds their types.
    """
    used = {name for node in stage.nodes for name in (*node.inputs, *node.inner)}
    body = b"".join(wire_field(1, node.message) for node in stage.nodes) + text(2, "part")
    body += b"".join(wire_field(5, message) for name, message in graph.stored.items() if name in used)
    body += b"".join(
        wire_field(11, text(1, name) + wire_field(2, wire_field(1, integer(1, kind)))) for name, kind in inputs
    )
    body += b"".join(wire_field(12, text(1, name)) for name in outputs)
    head = b"".join(
        integer(number, value) if isinstance(value, int) else wire_field(number, value) for number, value in graph.head
    )
    return head + wire_field(7, body)


def _made_elsewhere(stages: Sequence[Stage], place: int) -> Iterator[str]:
    for at, stage in enumerate(stages):
        yield from (name for step in stage.steps for name in step.outputs if name)
        if at != place:
            yield from (name for node in stage.nodes for name in node.outputs if name)


def _needed_elsewhere(stages: Sequence[Stage], place: int) -> Iterator[str]:
    for at, stage in enumerate(stages):
        yield from (name for step in stage.steps for name in step.inputs)
        if at != place:
            yield from (name for node in stage.nodes for name in (*node.inputs, *node.inner))


def _step(node: Node, graph: Graph, lengths: str | None, fits: Callable[[int], bool]) -> Step | None:
    if node.inner or any(name in graph.stored for name in node.inputs[:1]):
        return None
    if node.operator == "LSTM":
        return _lstm(node, graph, lengths, fits)
    read = _READERS.get(node.operator)
    return None if read is None else read(node, graph)


def _lstm(node: Node, graph: Graph, lengths: str | None, fits: Callable[[int], bool]) -> Lstm | None:
    inputs = (*node.inputs, *[""] * (8 - len(node.inputs)))
    w, r = _stored(graph, inputs[1]), _stored(graph, inputs[2])
    if any(node.attributes.get(name, usual) != usual for name, usual in _LSTM_DEFAULTS.items()):
        return None
    if set(node.attributes) - {"hidden_size", *_LSTM_DEFAULTS} or inputs[7] or inputs[4] not in ("", lengths or ""):
        return None
    if w is None or r is None or w.dtype != np.float32 or r.dtype != np.float32 or len(w) != 1 or not fits(r.shape[2]):
        return None
    hidden = r.shape[2]
    both = np.zeros((1, 8 * hidden), dtype=np.float32) if not inputs[3] else _stored(graph, inputs[3])
    if both is None or both.dtype != np.float32 or bool(inputs[5]) != bool(inputs[6]) or inputs[5] in graph.stored:
        return None
    if inputs[6] in graph.stored:
        return None
    outputs = (*node.outputs, *[""] * (3 - len(node.outputs)))
    total = both[0, : 4 * hidden] + both[0, 4 * hidden :]
    return Lstm(inputs=(inputs[0], inputs[4], *inputs[5:7]), outputs=outputs, w=w[0], r=r[0], b=total)


def _gemm(node: Node, graph: Graph) -> Product | None:
    w = _stored(graph, node.inputs[1])
    b = _stored(graph, node.inputs[2]) if len(node.inputs) > 2 else None  # noqa: PLR2004
    given = node.attributes
    plain = given.get("transA", 0) == 0 and given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0
    if w is None or not plain or w.dtype != np.float32:
        return None
    w = w if given.get("transB", 0) == 1 else np.ascontiguousarray(w.T)
    if len(node.inputs) > 2 and (b is None or b.shape != w.shape[:1]):  # noqa: PLR2004
        return None
    b = np.zeros(len(w), dtype=np.float32) if b is None else b
    return Product(inputs=node.inputs[:1], outputs=node.outputs, w=w, b=b)


def _matmul(node: Node, graph: Graph) -> Product | None:
    w = _stored(graph, node.inputs[1])
    if w is None or w.ndim != 2 or w.dtype != np.float32:  # noqa: PLR2004
        return None
    zero = np.zeros(w.shape[1], dtype=np.float32)
    return Product(inputs=node.inputs[:1], outputs=node.outputs, w=np.ascontiguousarray(w.T), b=zero)


def _squeeze(node: Node, graph: Graph) -> Squeeze | None:
    axes = _second(node, graph)
    if axes is None:
        return None
    return Squeeze(inputs=node.inputs[:1], outputs=node.outputs, axes=tuple(map(int, axes.reshape(-1))))


def _split(node: Node, graph: Graph) -> Split | None:
    parts = _second(node, graph)
    if parts is None or node.attributes.get("axis", 0) != 0 or len(set(parts.tolist())) != 1:
        return None
    return Split(inputs=node.inputs[:1], outputs=node.outputs)


def _concat(node: Node, graph: Graph) -> Concat | None:
    if node.attributes.get("axis") != 0 or any(name in graph.stored for name in node.inputs):
        return None
    return Concat(inputs=node.inputs, outputs=node.outputs)


def _swap(node: Node, graph: Graph) -> Swap | None:  # noqa: ARG001
    return Swap(inputs=node.inputs, outputs=node.outputs) if node.attributes.get("perm") == _SWAPPED else None


_READERS: Final[Mapping[str, Callable[[Node, Graph], Step | None]]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Squeeze": _squeeze,
    "Split": _split,
    "Concat": _concat,
    "Transpose": _swap,
}


def _second(node: Node, graph: Graph) -> Array | None:
    return _stored(graph, node.inputs[1]) if len(node.inputs) > 1 else None


def _stored(graph: Graph, name: str) -> Array | None:
    return stored_array(graph.stored[name]) if name in graph.stored else None
