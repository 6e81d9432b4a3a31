"""What a capture takes for granted of B and T, tried: on numbers, and where it fails there, on runs of the graph.

A capture of ``y[:, : T // 2 * 2]`` assumes that 2 * (T // 2) <= T, which always holds and which the capturer cannot
tell; one of ``x.reshape(B, T // 4, -1)`` assumes that T is no multiple of 4, and its graph is right for those too. So
each assumption is computed for every T up to some thousands and for the largest. Where it fails for some, the graph is
run for such, and held against the network.

Rules of this file: nothing is concluded from the form of an assumption; what cannot be computed is not granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ...bundle.axes import Axis
from ...bundle.manifest import GraphSignature, SessionOptions
from ..errors import FrozenAxisError
from ..proof.graph_legs import RuntimeLeg
from .size_guards import LONGEST_AXIS

if TYPE_CHECKING:
    from ..exportable import Exportable

_EVERY_UP_TO: Final = 4096  # rows, of some numbers of steps, and steps, of some numbers of rows
_LARGER: Final = [2**k + more for k in range(13, 24) for more in (-1, 0, 1)] + [LONGEST_AXIS]
_ROWS: Final = (1, 2, 3, 64)
_FEW_ROWS: Final = (1, 3)  # that are run
_MORE_STEPS: Final = (0, 1, 2, 3, 40, 101)
_SPREAD: Final = 300  # between the sizes of runs
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


class WrongGraphError(FrozenAxisError):
    """What a capture assumed matters: its graph is wrong for these sizes."""

    def __init__(self, rows: int, steps: int) -> None:
        super().__init__(
            f"its graph would be wrong for {rows} row{'s' * (rows > 1)} of {steps} step{'s' * (steps > 1)}"
        )


def sizes_against(program: torch.export.ExportedProgram, signature: GraphSignature) -> set[Sizes] | None:
    """Return sizes for which the program may assume too much, some dozens; None where it assumes what none can tell.

    Args:
        program: captured with what it assumes as assertions; they are taken out. That B and T are not one, or that T is
            no less than some number, it assumes without one.
        signature: of the graph.
    """
    axes, least = _axes_of(program, signature), signature.least_steps
    ranges = {axis: program.range_constraints.get(axis) for axis in axes}
    due: dict[Axis, int] = {"B": LONGEST_AXIS, "T": signature.at_most(LONGEST_AXIS)}
    if any(found is None or found.upper < due[axes[axis]] for axis, found in ranges.items()):
        return None
    if _assumes_inside(program):
        return None
    first = max([least, *(int(found.lower) for axis, found in ranges.items() if found and axes[axis] == "T")])
    steps = {signature.at_most(T) for T in (least, least + 1, max(first - 1, least), first)}
    chosen = {(B, T) for B in _FEW_ROWS for T in steps}
    for node in [node for node in program.graph.nodes if node.target is _ASSERTION]:
        failing = _failing(node.args[0], axes, least, due["T"])
        if failing is None or (failing and max(failing[0]) > _EVERY_UP_TO):
            return None
        chosen |= set(_some_of(failing))
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return chosen


def _assumes_inside(program: torch.export.ExportedProgram) -> bool:
    """Whether the body of a loop holds an assertion, whose sizes are those of a step."""
    bodies = [part for part in program.graph_module.modules() if part is not program.graph_module]
    return any(
        node.target is _ASSERTION
        for body in bodies
        if isinstance(body, torch.fx.GraphModule)
        for node in body.graph.nodes
    )


@torch.no_grad()
def prove_graph(model: bytes, exportable: Exportable, sizes: Iterable[Sizes]) -> None:
    """Hold the graph against the network for all these sizes.

    Raises:
        WrongGraphError: it gives something else for one of them.
    """
    leg = RuntimeLeg(model, exportable.signature, SessionOptions(), threads=1)
    names = [spec.name for spec in exportable.signature.inputs]
    has_lengths = exportable.signature.lengths is not None
    for rows, steps in sorted(sizes):
        inputs = exportable.example(rows, steps)
        try:
            found = leg.run(dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True)))
        except Exception as err:
            raise WrongGraphError(rows, steps) from err
        x, state = inputs[0], list(inputs[1 + has_lengths :])
        y, final = exportable.network(x, inputs[1] if has_lengths else None, state or None)
        if not all(_alike(a, b.numpy()) for a, b in zip(found.values(), (y, *final), strict=True)):
            raise WrongGraphError(rows, steps)


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


def _failing(condition: Any, axes: dict[Any, Axis], least_steps: int, most_steps: int) -> list[Sizes] | None:
    """Return the sizes for which an assumption fails, the fewest steps of few rows first; None where none can tell."""
    value = getattr(condition, "meta", {}).get("val")
    if not isinstance(value, torch.SymBool):
        return None
    rows, steps = _tried(least_steps, most_steps)
    try:
        with np.errstate(all="raise"):
            sizes = {symbol: rows if axis == "B" else steps for symbol, axis in axes.items()}
            holds = np.broadcast_to(_computed(value.node.expr, sizes), steps.shape)
    except (ArithmeticError, KeyError):
        return None
    return [(int(B), int(T)) for B, T in zip(rows[~holds], steps[~holds], strict=True)]


@lru_cache(maxsize=1)
def _tried(least_steps: int, most_steps: int) -> NDArray[np.int64]:
    """Return rows and steps for which assumptions are computed, [2, sizes]."""
    every = [*range(1, _EVERY_UP_TO + 1), *_LARGER]
    pairs = [(rows, steps) for steps in every if steps >= least_steps for rows in _ROWS]
    pairs += [(rows, least_steps + more) for rows in every for more in _MORE_STEPS]
    return np.array([pair for pair in pairs if pair[1] <= most_steps], dtype=np.int64).T


def _computed(expression: Any, sizes: dict[Any, NDArray[np.int64]]) -> Any:
    """Return an expression over B and T for all sizes at once; KeyError where it holds what is not known here."""
    if expression in sizes:
        return sizes[expression]
    if expression.is_Integer:
        return np.int64(int(expression))
    operation = _OPERATIONS[type(expression).__name__]
    return reduce(operation, [_computed(part, sizes) for part in expression.args])


def _some_of(failing: list[Sizes]) -> Iterator[Sizes]:
    """Yield the fewest steps and some more, for one row and several; where it fails for others, some of those."""
    for B in _FEW_ROWS:
        yield from ((B, T) for T in _spread(T for rows, T in failing if rows == B))
    if not any(B in _FEW_ROWS for B, _ in failing):
        fewest = dict(reversed(failing))
        yield from ((B, fewest[B]) for B in _spread(fewest))


def _spread(sizes: Iterable[int]) -> set[int]:
    """Return the two least, and the largest that is not much larger."""
    ordered = sorted(sizes)
    near = [size for size in ordered if size <= ordered[0] + _SPREAD]
    return {*near[:2], *near[-1:]}
