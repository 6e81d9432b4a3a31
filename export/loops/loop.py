"""A loop over time in what was unrolled, as data.

Rules of this file: plain data; finder.py makes it.
"""

from dataclasses import dataclass
from typing import Final

NONE_FOUND: Final = "no loop over time was found in it"
SHORTENED: Final = (
    "no loop over every step was found in it, and {} makes the sequence shorter; let an nn.LSTM, an nn.GRU or "
    "cellgate.model.LSTMLayer over your cell run a loop behind it"
)
SCANNED: Final = (
    "no loop over time was found in it, and torch.{}, which goes over all steps at once, is none; where that is a "
    "parallel scan, let forward take its sequential form, as h = a[:, t] * h + b[:, t] in a loop over the steps"
)
PASSES_OVER: Final = (
    "its loop over time does not read every step in turn, as range(1, T) or a step of two does not, or looks back to "
    "the last state but one alone; let it read each, from the first to the last, and do the same with it and the last "
    "state"
)
UNLIKE: Final = (
    "its loop over time does not do the same in every step; let each step do what the others do, the first from zeros"
)
BY_NUMBER: Final = (
    "its loop over time computes with the number of the step, or with weights of a step's own, in a way that is none "
    "of a + b * t, 1 / (a + b * t), a * b ** t and row t of a table; compute what depends on it for all steps before "
    "the loop, as w = torch.sin(torch.arange(x.size(1))), and take w[t] in it"
)
ONE_SLOT_MORE: Final = (
    "what it reads after its loop over time begins with the state before the loop, the first of one slot more than "
    "there are steps; leave it out, as h[:, 1:] does"
)
MIDDLE: Final = 2  # an iteration that has two before it and two behind it, for any T of 5 or more


class NoLoopError(Exception):
    """There is no loop, or its steps are not alike; the text says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """One direction of a loop.

    Attributes:
        reverse: whether it runs from the last step to the first.
        iterations: in the loop's own order, each the numbers of its values by place: ``iterations[k][j]`` does in
            iteration k what ``iterations[0][j]`` does in the first. None stands in the last two where nobody needed it.
        carried: places whose value the next iteration reads, each with the value that the first one reads instead.
        needs: for each place the places of the same iteration that it reads.
        needs_old: for each place the carried places of the iteration before that it reads.
    """

    reverse: bool
    iterations: tuple[tuple[int | None, ...], ...]
    carried: dict[int, int]
    needs: tuple[frozenset[int], ...]
    needs_old: tuple[frozenset[int], ...]
