"""For how many steps a foreign module runs: the fewest, as a front leaves none of less, and the most, as positions end.

Rules of this file: counts are found on runs of the module as it came, never in its code.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from ..error_line import said_by
from ..errors import SignatureError
from .input_trial import PROBE_ROWS, example
from .proof_steps import longest_table, proof_steps

if TYPE_CHECKING:
    from .network import ForeignNetwork

_FEWEST_BETWEEN: Final = 24  # the least and the most: where fewer are, the number of steps is as good as fixed


@torch.no_grad()
def find_least_steps(network: ForeignNetwork, module: nn.Module) -> None:
    """Find the fewest steps that the module takes as it came and with its layers exchanged, and what it says to fewer.

    Where it does not run for many either, that is not what it is about, and prove_as_it_came says so.
    """
    fails, runs = 0, network.probe_steps[0]
    if _complaint(network, module, runs) is not None:
        return
    while runs - fails > 1:
        steps = 1 if fails == 0 else (fails + runs) // 2
        complaint = _complaint(network, module, steps)
        if complaint is None:
            runs = steps
        else:
            told = isinstance(complaint, SignatureError)
            fails, network.said_to_fewer = steps, str(complaint) if told else f"it said {said_by(complaint)}"
    network.least_steps = runs
    network.least_captured = next(
        (n for n in range(runs, network.probe_steps[1] + 1) if _fewest_left(network, n) > 1), network.probe_steps[0]
    )


def _fewest_left(network: ForeignNetwork, steps: int) -> int:
    """Return the fewest steps that a layer behind a front sees, or the answer has; 2 where none has fewer than came."""
    network.call(example(network, steps))
    seen = [min(network.carry.steps[n]) for n in network.behind_front if n in network.carry.steps]
    return min([*seen, 2 if network.answer_axis.is_every_step else network.answer_axis.size(steps)], default=2)


def _complaint(network: ForeignNetwork, module: nn.Module, steps: int) -> Exception | None:
    rows = 1 if network.input_layout.one_at_a_time else PROBE_ROWS
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is refused or told here anyway
            x = example(network, steps, rows)
            y, _ = network.run_rows(x, None, None)
            network.call_as_it_came(module, x[:1])
    except Exception as err:  # noqa: BLE001 - a stranger's forward may fail in any way
        return err
    if network.answer_axis.size(steps) > steps:  # a front that pads much leaves more of the fewest
        return SignatureError("it answers for more steps than it is given")
    if tuple(y.shape[y.dim() - len(network.output_sizes) :]) != network.output_sizes:  # such as y[:, -5:] of fewer
        return SignatureError(f"it answers with shape {list(y.shape)}")
    if not y.numel():
        return SignatureError("it answers for no step")
    return SignatureError("it answers with NaN") if bool(y.isnan().any()) else None  # as y.std(1) does of one step


@torch.no_grad()
def find_most_steps(network: ForeignNetwork, module: nn.Module) -> None:
    """Find the most steps that the module takes as it came, where it has an end, and what it says to more.

    A table of 512 positions or a mask of [1000, 1000] is such an end. Tried is the largest number of steps for which
    it will be held against what was made of it, or one more than its largest table has; where few run,
    prove_as_it_came says so.
    """
    tried = proof_steps(module, network.least_steps, shortened=not network.sees_steps)
    longest = max(*tried, longest_table(module) + 1)
    if longest <= network.probe_steps[1] or _failure(network, module, longest) is None:
        return
    most = most_that_run(network, module, longest)
    if most - network.least_steps >= _FEWEST_BETWEEN:
        failure = _failure(network, module, most + 1)
        network.most_steps, network.said_to_more = most, f"it said {said_by(failure)}" if failure else ""


def _failure(network: ForeignNetwork, module: nn.Module, steps: int) -> Exception | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            network.call_as_it_came(module, example(network, steps, 1))
    except Exception as err:  # noqa: BLE001 - a stranger's forward may fail in any way
        return err
    return None


def most_that_run(network: ForeignNetwork, module: nn.Module, failing: int) -> int:
    """Return the number of steps up to which the module runs; it fails for ``failing``."""
    runs, fails = network.probe_steps[1], failing
    while fails - runs > 1:
        middle = (runs + fails) // 2
        if _failure(network, module, middle) is None:
            runs = middle
        else:
            fails = middle
    return runs
