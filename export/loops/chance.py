"""Random numbers that a module draws even in evaluation: no program can be held against a module that does.

Rules of this file: operators are told by their names.
"""

from typing import Final

from .loop import NoLoopError
from .unrolled import Unrolled

_RANDOM: Final = (
    "rand",
    "bernoulli",
    "normal",
    "multinomial",
    "native_dropout",
    "dropout",
    "feature_dropout",
    "uniform",
    "exponential",
)


def refuse_chance(unrolled: Unrolled) -> None:
    """Raise a NoLoopError where the output depends on a random operator."""
    for number in unrolled.reachable():
        name = str(unrolled.values[number].target).removeprefix("aten.")
        if name.startswith(_RANDOM):
            raise NoLoopError(
                f"it draws random numbers ({name.split('.')[0]}) even in evaluation; start from zeros, and draw only "
                "where self.training"
            )
