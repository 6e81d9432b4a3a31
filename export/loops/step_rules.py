"""How a number in a loop depends on the number of its step.

Rules of this file: pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

FEWEST: Final = 3  # numbers that tell a rule


@dataclass(frozen=True, slots=True)
class Rule:
    """How a number depends on its step t: first + by * t, that under 1, or first * by**t."""

    form: str
    first: float
    by: float

    def at(self, t: int) -> float:
        """Return the number of step t."""
        if self.form == "power":
            return float(self.first * self.by**t)
        number = self.first + self.by * t
        return 1.0 / number if self.form == "under-one" and number else number


def rule_of(numbers: Sequence[Any], steps: Sequence[int]) -> Rule | None:
    """Return the rule that numbers at these steps follow, at least three of them, or None; pure."""
    if any(type(number) not in {int, float} for number in numbers) or len(numbers) < FEWEST:
        return None
    (t, a), (u, b) = zip(steps[:2], (float(n) for n in numbers[:2]), strict=True)
    tried = [Rule("even", *_line(t, a, u, b))]
    if a and b:
        tried.append(Rule("under-one", *_line(t, 1.0 / a, u, 1.0 / b)))
    if a and b / a > 0:
        by = (b / a) ** (1.0 / (u - t))
        tried.append(Rule("power", a / by**t, by))
    found = (rule for rule in tried if all(is_near(rule.at(t), n) for t, n in zip(steps, numbers, strict=True)))
    return next(found, None)


def _line(t: int, a: float, u: int, b: float) -> tuple[float, float]:
    """Return (first, by) of the line through two points, in whole numbers where they nearly are."""
    by = (b - a) / (u - t)
    first = a - by * t
    return _rounded(first), _rounded(by)


def _rounded(number: float) -> float:
    return float(round(number)) if is_near(number, round(number)) else number


def is_near(found: float, expected: float) -> bool:
    """Whether two numbers are one but for rounding."""
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
