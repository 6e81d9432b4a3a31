"""The values of an unrolled module, and where each stands in its loops.

A value of a loop is named by its loop k (0, or 1 for the other direction) and its place j in the loop's body.

Rules of this file: it answers questions and decides nothing.
"""

import torch

from .loop import MIDDLE, Loop, NoLoopError
from .unrolled import Unrolled
from .value import INPUT, Ref, Value

_aten = torch.ops.aten


class LoopValues:
    """Values and loops.

    Attributes:
        unrolled: the values.
        loops: found in them.
        alive: numbers of the values that the output needs.
        last: (k, j) of the values of the last iteration, by number.
        in_iterations: numbers of the values of any iteration.
        place: for each loop the places of the middle iteration's values, by number.
        old: likewise of the iteration before that one: read by the middle one, they are what is carried.
        floats: names of the weights that are floating point.
    """

    def __init__(self, unrolled: Unrolled, loops: list[Loop]) -> None:
        self.unrolled = unrolled
        self.loops = loops
        self.alive = set(unrolled.reachable())
        self.last = {
            n: (k, j) for k, loop in enumerate(loops) for j, n in enumerate(loop.iterations[-1]) if n is not None
        }
        self.in_iterations = {n for loop in loops for iteration in loop.iterations for n in iteration}
        self.place = [{n: j for j, n in enumerate(loop.iterations[MIDDLE])} for loop in loops]
        self.old = [{n: j for j, n in enumerate(loop.iterations[MIDDLE - 1])} for loop in loops]
        self.floats = [name for name, tensor in unrolled.weights.items() if tensor.is_floating_point()]
        self._data: dict[int, bool] = {}

    def at(self, k: int, j: int) -> Value:
        """Return the value of a place in the middle iteration."""
        number = self.loops[k].iterations[MIDDLE][j]
        assert number is not None  # the middle has every place
        return self.unrolled.values[number]

    def shape(self, k: int, j: int) -> tuple[int, tuple[int, ...]]:
        """Return ``laid_out`` of a place."""
        return self.laid_out(self.loops[k].iterations[MIDDLE][j])

    def dtype(self, k: int, j: int) -> torch.dtype | None:
        """Return ``whole_dtype`` of a place."""
        return self.whole_dtype(self.loops[k].iterations[MIDDLE][j])

    def whole_dtype(self, number: int | None) -> torch.dtype | None:
        """Return the dtype of integers or truth values, or None for numbers."""
        assert number is not None
        dtype = self.unrolled.values[number].dtype
        return dtype if dtype is not None and not dtype.is_floating_point else None

    def laid_out(self, number: int | None) -> tuple[int, tuple[int, ...]]:
        """Return (axis of the batch, the other sizes) of a step's value."""
        assert number is not None
        shape = self.unrolled.values[number].shape
        if shape is None or shape.count("B") != 1 or "?" in shape:
            raise NoLoopError("a step of its loop over time mixes the batch with something else")
        axis = shape.index("B")
        return axis, shape[:axis] + shape[axis + 1 :]

    def collected_by(self, value: Value) -> list[tuple[int, int]] | None:
        """Return [(k, j)] if a value joins one place of all iterations, in the order of the steps or against it."""
        found = self.collection(value)
        return None if found is None else [found[:2]]

    def collection(self, value: Value) -> tuple[int, int, bool] | None:
        """As ``collected_by``, with whether the order is against the steps."""
        if value.target not in {_aten.stack.default, _aten.cat.default} or len(value.args[0]) != self.unrolled.steps:
            return None
        numbers = [part.number for part in value.args[0] if isinstance(part, Ref)]
        for k, loop in enumerate(self.loops):
            for j in range(len(loop.needs)):
                iterations = [iteration[j] for iteration in loop.iterations]
                if numbers in (iterations, iterations[::-1]):
                    return k, j, (numbers == iterations) == loop.reverse
        return None

    def reads_data(self, number: int) -> bool:
        """Whether the sequence's values, not only its size, went into a value."""
        if number not in self._data:
            value = self.unrolled.values[number]
            inner = any(self.reads_data(n) for n in value.reads())
            self._data[number] = value.target == INPUT or inner
        return self._data[number]
