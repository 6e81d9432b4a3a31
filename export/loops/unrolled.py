"""What a module does with so many steps, written out: every operation once, and of each which steps it has seen.

Rules of this file: equal operations are one value, so that each step of a loop has the same form (equal_values.py).
"""

from typing import Any

from torch import Tensor

from .equal_values import equal_value
from .value import STEP, Reading, Ref, Value, refs_in


class Unrolled:
    """The values of a module that ran over ``steps`` steps, each after those that it reads.

    Attributes:
        steps: T.
        values: see Value.
        result: number of the module's output.
        weights: parameters, buffers and constants by name.
        reading: of a step of what was computed of all steps.
        by_number: whether its steps compute with their number in a way that is not known (step_numbers.py).
        fed_back: the stage of a decoder's loop, which reads no step (fed_back.py), or None.
    """

    def __init__(self, steps: int, reading: Reading = Reading.AS_IT_STANDS) -> None:
        self.steps = steps
        self.reading = reading
        self.by_number = False
        self.fed_back: int | None = None
        self.values: list[Value] = []
        self.result = -1
        self.weights: dict[str, Tensor] = {}
        self._numbers: dict[Any, int] = {}

    def find(self, target: Any, args: Any, kwargs: Any) -> int | None:
        """Return the number of the value that has target and arguments, if there is one."""
        return self._numbers.get(_key(target, args, kwargs))

    def add(
        self, target: Any, args: tuple[Any, ...], kwargs: tuple[Any, ...] = (), shape: Any = None, dtype: Any = None
    ) -> int:
        """Return the number of a value, which may be there already, or may be another in disguise."""
        same = equal_value(self, target, args, shape, dtype)
        if same is not None:
            return same
        key = _key(target, args, kwargs)
        if key not in self._numbers:
            stage, steps = self._stage_and_steps(target, args, kwargs)
            self._numbers[key] = len(self.values)
            self.values.append(
                Value(target=target, args=args, kwargs=kwargs, shape=shape, dtype=dtype, steps=steps, stage=stage),
            )
        return self._numbers[key]

    def _stage_and_steps(self, target: Any, args: Any, kwargs: Any) -> tuple[int, int]:
        """Return ``stage`` and ``steps`` of a value; what one step of an earlier sequence gave counts anywhere."""
        reads = [self.values[number] for number in refs_in((args, kwargs))]
        stage = max((value.stage for value in reads), default=0)
        if target == STEP:
            return stage + (1 if reads[0].steps else 0), 1 << args[2]
        steps = 0
        for value in reads:
            if value.stage == stage or value.steps.bit_count() == 1:
                steps |= value.steps
        return stage, steps

    def reachable(self) -> list[int]:
        """Return the numbers of the values that the output needs, in order."""
        needed, open_ = set(), [self.result]
        while open_:
            number = open_.pop()
            if number not in needed:
                needed.add(number)
                open_ += self.values[number].reads()
        return sorted(needed)

    def shape_of(self, ref: Ref) -> tuple[Any, ...]:
        """Return the shape of an argument, empty for what is no tensor."""
        return self.values[ref.number].shape or ()


def _key(target: Any, args: Any, kwargs: Any) -> Any:
    return target, _hashable(args), _hashable(kwargs)


def _hashable(argument: Any) -> Any:
    """Return what tells arguments apart, 1 from 1.0 and True as well."""
    if isinstance(argument, tuple):
        return tuple(_hashable(part) for part in argument)
    return argument if isinstance(argument, Ref) else (type(argument).__name__, str(argument))
