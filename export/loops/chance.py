"""Random numbers that a module draws even in evaluation: no program can be held against a module that does.

Rules of this file: operators are told by their names.
"""

from typing import Final

from .loop import NoLoopError
from .unrolled import Unrolled
from .value import STEP

_RANDOM: Final = (
    "rand",
    "bernoulli",
    "normal",
    "multinomial",
    "native_dropout",
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "uniform",
    "exponential",
)
UNWRITTEN: Final = "it reads of torch.empty what nothing was written into; begin with torch.zeros"
_UNWRITTEN: Final = ("aten.empty", "aten.new_empty")
_READS_A_PART: Final = frozenset({STEP, "select.int"})


def refuse_chance(unrolled: Unrolled) -> None:
    """Raise a NoLoopError where the output depends on a random operator, or on memory that nothing was written into."""
    for number in unrolled.reachable():
        value = unrolled.values[number]
        name = str(value.target).removeprefix("aten.")
        source = str(unrolled.values[value.args[0].number].target) if name in _READS_A_PART else ""
        if source.startswith(_UNWRITTEN):
            raise NoLoopError(UNWRITTEN)
        if name.startswith(_RANDOM):
            raise NoLoopError(
                f"it draws random numbers ({name.split('.')[0]}) even in evaluation; start from zeros, and draw only "
                "where self.training"
            )
