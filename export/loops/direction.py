"""The values of an unrolled module as one direction of a loop sees the steps: iteration 0 reads step 0, or step T - 1.

Rules of this file: it answers what belongs to which iteration, and judges nothing.
"""

from typing import Any

from .unrolled import Unrolled
from .value import Value


class Direction:
    """One way through the steps.

    Attributes:
        unrolled: the module.
        reverse: whether iteration 0 reads the last step.
        stage: of the loop, as Value.stage; what an earlier one gave is there before it, and a later one follows.
        T: the number of steps, and of iterations.
        alive: numbers of the values that the output needs.
        steps: of each such value the steps of this stage that went into it, as Value.steps.
    """

    def __init__(self, unrolled: Unrolled, stage: int = 0, *, reverse: bool) -> None:
        self.unrolled = unrolled
        self.reverse = reverse
        self.stage = stage
        self.T = unrolled.steps
        self.alive = unrolled.reachable()
        self.steps = {number: self._steps_of(unrolled.values[number]) for number in self.alive}

    def _steps_of(self, value: Value) -> int:
        if value.stage > self.stage:
            return (1 << self.T) - 1
        single = value.steps.bit_count() == 1 and self.stage != self.unrolled.fed_back
        return value.steps if value.stage == self.stage or single else 0

    def value(self, number: int) -> Value:
        """Return a value."""
        return self.unrolled.values[number]

    def target(self, number: int) -> Any:
        """Return what a value is the result of."""
        return self.value(number).target

    def at(self, iteration: int) -> int:
        """Return the step that an iteration reads."""
        return self.T - 1 - iteration if self.reverse else iteration

    def seen(self, iteration: int) -> int:
        """Return the steps that have been seen at the end of an iteration, as Value.steps."""
        return sum(1 << self.at(k) for k in range(iteration + 1))

    def places(self, iteration: int) -> list[int]:
        """Return the values of an iteration: what has seen just its steps, and what that needs of its step.

        Of its step alone or beside earlier ones, as ``x[:, t] - x[:, t - 1]`` is.
        """
        seen = self.seen(iteration)
        found = {number for number in self.alive if self.steps[number] == seen}
        open_ = list(found)
        while open_:
            value = self.value(open_.pop())
            for number in value.reads():
                steps = self.steps[number]
                if steps >> self.at(iteration) & 1 and not steps & ~seen and number not in found:
                    found.add(number)
                    open_.append(number)
        return sorted(found)
