"""What was measured of a bundle in one process, for another one that opens the same: plain figures over their border.

They hold in the other process because all that a run's time depends on is the same: the bundle (by its digest), the
settings, the CPUs and the number of threads; each is the least of many repeats. They do not where whoever measured had
to wait for a CPU, which a trial with its low priority does on a busy machine: it stops early then. On CUDA neither:
memory and clocks of the device belong to the process, and so does the proof that states may stay there.

Rules of this file: numbers and words only; what is not as it should be is no figure, and whoever asked measures itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.runtime import RuntimeFacts
from .cost_model import CostModel

_DEVICE = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What was found out about a bundle on this machine's CPUs.

    Attributes:
        threads: with which its runs were fastest.
        cost: of its runs with so many.
    """

    threads: int
    cost: CostModel

    def holds_for(self, facts: RuntimeFacts) -> bool:
        """Whether a runtime that was opened is of the kind that was measured."""
        return facts.device == _DEVICE and facts.threads == self.threads

    def figures(self) -> dict[str, Any]:
        """Return it as plain JSON values; floats come back to the last bit."""
        cost = self.cost
        return {
            "threads": self.threads,
            "run_s": cost.run_s,
            "row_s": cost.row_s,
            "step_s": cost.step_s.tolist(),
            "best_row_steps": cost.best_row_steps,
        }


def measured_on(facts: RuntimeFacts, cost: CostModel) -> Measured | None:
    """Return what another process may go by, or None: it measures itself."""
    found = Measured(threads=facts.threads, cost=cost)
    return found if cost.had_cpu and found.holds_for(facts) else None


def measured_from(figures: Mapping[str, Any] | None, max_rows: int) -> Measured | None:
    """Return what `Measured.figures` took apart; None where it is none.

    Args:
        figures: as they came.
        max_rows: of the table that is needed.
    """
    if figures is None:
        return None
    try:
        step_s = np.array(figures["step_s"], dtype=np.float64)
        run_s, row_s = float(figures["run_s"]), float(figures["row_s"])
        threads, best = int(figures["threads"]), int(figures["best_row_steps"])
    except (KeyError, TypeError, ValueError):
        return None
    numbers = np.array([run_s, *step_s[1:].ravel()])
    if step_s.shape != (max_rows + 1,) or not (np.isfinite([row_s, *numbers]).all() and (numbers > 0).all()):
        return None
    if row_s < 0 or threads < 1 or best < 1:
        return None
    cost = CostModel(run_s=run_s, row_s=row_s, step_s=step_s, best_row_steps=best)
    return Measured(threads=threads, cost=cost)
