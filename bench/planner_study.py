"""What the planner's own constants are worth: its decisions played against the costs of this machine, without noise.

    python bench/planner_study.py BUNDLE [--lengths medium] [--outstanding 32] [--count 2000] [--seeds 4]

The cost of runs is measured once, as a server measures it; then a closed loop is played through the planner itself, the
time of each run taken from the table. So the figures are what the plan is worth if the table is right: the share of the
floor, and the padding among the computed steps. Rows: shares of a run's fixed cost that an ending sequence counts
(`FINISH_BONUS`); columns: how many times its own work a sequence waits before it leads (`PATIENCE`).
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import cellgate.serve.engine.plan as planning
from cellgate.client.lengths import parse_lengths
from cellgate.serve.engine.cost_model import CostModel
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.models import EngineModel, open_engine_models
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.settings import Settings

BONUSES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
PATIENCES: Final = (2.0, 8.0, 32.0)


@dataclass
class Played:
    """What came of one closed loop.

    Attributes:
        seconds: of all runs, by the table.
        useful: steps of real rows.
        computed: steps, padding included.
    """

    seconds: float = 0.0
    useful: int = 0
    computed: int = 0


def play(planner: planning.Planner, lengths: NDArray[np.int64], outstanding: int) -> Played:
    """Work through the lengths, so many at a time, each run as the planner chooses it."""
    found, waiting = Played(), iter(lengths.tolist())
    lanes: list[list[float]] = []  # [steps left, due moment]
    while lanes := _filled(lanes, waiting, outstanding, found.seconds, planner.cost):
        lanes.sort(key=lambda lane: lane[0])
        remaining = np.array([lane[0] for lane in lanes], dtype=np.int64)
        leader = min(range(len(lanes)), key=lambda place: lanes[place][1])
        run = planner.choose_run(remaining, leader)
        found.seconds += planner.cost.seconds(run.stop - run.first, run.steps)
        found.computed += (run.stop - run.first) * run.steps
        for lane in lanes[run.first : run.stop]:
            done = min(int(lane[0]), run.steps)
            found.useful += done
            lane[0] -= done
        lanes = [lane for lane in lanes if lane[0] > 0]
    return found


def _filled(
    lanes: list[list[float]], waiting: Iterator[int], outstanding: int, now_s: float, cost: CostModel
) -> list[list[float]]:
    while len(lanes) < outstanding and (steps := next(waiting, 0)):
        lanes.append([steps, planning.due_s(now_s, steps, 0, cost.unit_s)])
    return lanes


def study(opened: EngineModel, given: argparse.Namespace) -> Table:
    """Play every pair of constants over the same lengths."""
    headers = (f"PATIENCE {patience:g}" for patience in PATIENCES)
    table = Table("FINISH_BONUS", *headers, title="of the floor, and padding")
    limits, manifest = EngineLimits.of(Settings()), opened.served.manifest
    rules = planning.RunRules(
        stoppable=manifest.streamable,
        ragged=manifest.graph.lengths is not None,
        run_limit_s=limits.run_limit_s,
        step_budget=limits.step_budget,
    )
    lengths = parse_lengths(given.lengths)
    draws = [lengths.draw(given.count, seed) for seed in range(given.seeds)]
    for bonus in BONUSES:
        cells = []
        for patience in PATIENCES:
            planning.FINISH_BONUS, planning.PATIENCE = bonus, patience  # type: ignore[misc]
            planner = planning.Planner(opened.cost, rules, limits.max_lanes)
            played = [play(planner, draw, given.outstanding) for draw in draws]
            cells.append(_words(played, planner.cost.unit_s))
        table.add_row(f"{bonus:g}", *cells)
    return table


def _words(played: list[Played], unit_s: float) -> str:
    useful, computed = sum(one.useful for one in played), sum(one.computed for one in played)
    share = useful * unit_s / sum(one.seconds for one in played)
    return f"{share:.1%}, {1 - useful / computed:.1%}"


def main() -> None:
    """Measure the costs and play."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--lengths", default="medium", help="as of cellgate bench (default medium)")
    parser.add_argument("--outstanding", type=int, default=32, help="sequences on their way (default 32)")
    parser.add_argument("--count", type=int, default=2000, help="sequences of a draw (default 2000)")
    parser.add_argument("--seeds", type=int, default=4, help="draws (default 4)")
    given = parser.parse_args()
    opened = open_engine_models([BundlePlace(given.bundle)], Settings(threads=1))[0]
    try:
        Console().print(study(opened, given))
    finally:
        opened.runtime.close()


if __name__ == "__main__":
    main()
