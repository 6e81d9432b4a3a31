"""What a capture takes for granted of B and T, tried: on numbers, and where it fails there, on runs of the graph.

A capture of ``y[:, : T // 2 * 2]`` assumes that 2 * (T // 2) <= T, which always holds and which the capturer cannot
tell; one of ``x.reshape(B, T // 4, -1)`` assumes that T is no multiple of 4, and its graph is right for those too. So
each assumption is computed for every T up to some thousands and for the largest. Where it fails for some, the graph is
run for such, and held against the network.

Rules of this file: nothing is concluded from the form of an assumption; what cannot be computed is not granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ..bundle.axes import Axis
from ..bundle.manifest import GraphSignature, SessionOptions
from .graph_legs import RuntimeLeg
from .size_guards import LONGEST_AXIS

if TYPE_CHECKING:
    from .exportable import Exportable

_EVERY_UP_TO: Final = 4096  # steps
_LARGER: Final = [2**k + more for k in range(13, 24) for more in (-1, 0, 1)] + [LONGEST_AXIS]
_ROWS: Final = (1, 2, 3, 64)
_FEW_ROWS: Final = (1, 3)
_SPREAD: Final = 300  # steps between runs
_ASSERTION: Final = torch.ops.aten._assert_scalar.default  # noqa: SLF001 - its only name
_OPERATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "Add": np.add,
    "Mul": np.multiply,
    "FloorDiv": np.floor_divide,
    "Mod": np.mod,
    "PythonMod": np.mod,
    "Max": np.maximum,
    "Min": np.minimum,
    "Equality": np.equal,
    "Unequality": np.not_equal,
    "LessThan": np.less_equal,
    "StrictLessThan": np.less,
    "GreaterThan": np.greater_equal,
    "StrictGreaterThan": np.greater,
    "And": np.logical_and,
    "Or": np.logical_or,
}

Sizes = tuple[int, int]  # rows and steps


def sizes_against(program: torch.export.ExportedProgram, signature: GraphSignature) -> set[Sizes] | None:
    """Return sizes for which the program may assume too much, some dozens; None where it assumes what none can tell.

    Args:
        program: captured with what it assumes as assertions; they are taken out. That B and T are not one, or that T is
            no less than some number, it assumes without one.
        signature: of the graph.
    """
    axes, least = _axes_of(program, signature), signature.least_steps
    ranges = {axis: program.range_constraints.get(axis) for axis in axes}
    if any(found is None or found.upper < LONGEST_AXIS for found in ranges.values()):
        return None
    first = max([least, *(int(found.lower) for axis, found in ranges.items() if found and axes[axis] == "T")])
    chosen = {(B, T) for B in _FEW_ROWS for T in {least, least + 1, max(first - 1, least), first}}
    for node in [node for node in program.graph.nodes if node.target is _ASSERTION]:
        failing = _failing(node.args[0], axes, least)
        if failing is None or (failing and failing[0][1] > _EVERY_UP_TO):
            return None
        chosen |= set(_some_of(failing))
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return chosen


@torch.no_grad()
def is_right_for(model: bytes, exportable: Exportable, sizes: Iterable[Sizes]) -> bool:
    """Whether the graph gives what the network does, for all these sizes."""
    leg = RuntimeLeg(model, exportable.signature, SessionOptions(), threads=1)
    names = [spec.name for spec in exportable.signature.inputs]
    has_lengths = exportable.signature.lengths is not None
    for rows, steps in sorted(sizes):
        inputs = exportable.example(rows, steps)
        try:
            found = leg.run(dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True)))
        except Exception:  # noqa: BLE001 - a graph may fail in any way where what it assumes does not hold
            return False
        x, state = inputs[0], list(inputs[1 + has_lengths :])
        y, final = exportable.network(x, inputs[1] if has_lengths else None, state or None)
        if not all(_alike(a, b.numpy()) for a, b in zip(found.values(), (y, *final), strict=True)):
            return False
    return True


def _alike(found: NDArray[Any], due: NDArray[Any]) -> bool:
    return found.shape == due.shape and np.allclose(found, due, rtol=1e-4, atol=1e-5)


def _axes_of(program: torch.export.ExportedProgram, signature: GraphSignature) -> dict[Any, Axis]:
    """Return which of the free axes each symbol for the size of an input is; each input may have one of its own."""
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    found: dict[Any, Axis] = {}
    for name, spec in zip(program.graph_signature.user_inputs, signature.inputs, strict=True):
        sizes = zip(values[name].shape, spec.shape, strict=True)
        found |= {size.node.expr: axis for size, axis in sizes if isinstance(size, torch.SymInt)}
    return found


def _failing(condition: Any, axes: dict[Any, Axis], least_steps: int) -> list[Sizes] | None:
    """Return the sizes for which an assumption fails, fewest steps first; None where that cannot be computed."""
    value = getattr(condition, "meta", {}).get("val")
    if not isinstance(value, torch.SymBool):
        return None
    every = [*range(least_steps, _EVERY_UP_TO + 1), *(count for count in _LARGER if count > least_steps)]
    steps, rows = (grid.ravel() for grid in np.meshgrid(np.array(every), np.array(_ROWS), indexing="ij"))
    try:
        with np.errstate(all="raise"):
            sizes = {symbol: rows if axis == "B" else steps for symbol, axis in axes.items()}
            holds = np.broadcast_to(_computed(value.node.expr, sizes), steps.shape)
    except (ArithmeticError, KeyError):
        return None
    return [(int(B), int(T)) for B, T in zip(rows[~holds], steps[~holds], strict=True)]


def _computed(expression: Any, sizes: dict[Any, NDArray[np.int64]]) -> Any:
    """Return an expression over B and T for all sizes at once; KeyError where it holds what is not known here."""
    if expression in sizes:
        return sizes[expression]
    if expression.is_Integer:
        return np.int64(int(expression))
    operation = _OPERATIONS[type(expression).__name__]
    return reduce(operation, [_computed(part, sizes) for part in expression.args])


def _some_of(failing: list[Sizes]) -> Iterator[Sizes]:
    """Yield the two fewest steps, and the most that are not many more, each for one row and for several."""
    for B in _FEW_ROWS:
        steps = [T for rows, T in failing if rows == B]
        near = [count for count in steps if count <= steps[0] + _SPREAD]
        yield from ((B, T) for T in {*near[:2], *near[-1:]})
