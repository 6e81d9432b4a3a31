"""The last word on a foreign module: the network made of it is held against the module as it came, row by row.

Numbers of steps are tried that no capture saw, among them those that the module's own code names (proof_steps.py).

Rules of this file: what fails or differs is an error that says for how many steps; nothing else is judged here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from ..error_line import said_by
from ..errors import FrozenAxisError, SignatureError
from ..graph.capture_error import place_of
from ..half_precision import half_precision_in, say_half_precision
from .answered_steps import check_answered
from .columns import NARROWER
from .input_trial import PROBE_ROWS, example
from .proof_steps import proof_steps
from .python_chance import draws_by_chance, gives_another
from .steps_range import most_that_run

if TYPE_CHECKING:
    from .network import ForeignNetwork

_FEW: Final = 200  # up to here all rows are run; one tells enough of more steps
_SHAKE: Final = 1e-6  # a few units of float32's rounding


@torch.no_grad()
def prove_as_it_came(network: ForeignNetwork, module: nn.Module) -> None:
    """Hold the network against the module before any exchange, each row of a batch alone, for several lengths.

    Raises:
        SignatureError: the module fails for one row or for few steps, gives something else, or computes in half
            precision.
        FrozenAxisError: it fails from some number of steps on.
    """
    theirs = copy.deepcopy(module).eval()
    _refuse_half_precision(network, theirs)
    equal_for = 0
    for steps in proof_steps(module, network.least_steps, network.most_steps, shortened=not network.sees_steps):
        x = example(network, steps, PROBE_ROWS if steps <= _FEW else 1, seed=2)
        y = _run_or_refuse(network, theirs, x, lambda x=x: network(x)[0])  # type: ignore[misc]
        alone = _rows_alone(network, theirs, x)
        if not equal_for and draws_by_chance(partial(network.call_as_it_came, theirs, x[:1])):
            raise SignatureError(gives_another(type(module).__name__))
        if network.per_step:
            check_answered(type(module).__name__, alone, network.answer_axis, steps)
        if steps > network.probe_steps[1] and not bool(alone.isfinite().all()):
            continue  # it grows without bounds, and nothing is told by what is left of it
        if bool(alone.isnan().any()):
            raise SignatureError(gives_nan(module, steps))
        if not _alike(alone, y) and _alike(alone, _rows_alone(network, _shaken(theirs), x)):
            raise SignatureError(_differs(type(module).__name__, steps, equal_for))
        equal_for = max(equal_for, steps)


def _refuse_half_precision(network: ForeignNetwork, theirs: nn.Module) -> None:
    x = example(network, network.probe_steps[0], 1, seed=2)
    try:
        found = half_precision_in(partial(network.call_as_it_came, theirs, x))
    except Exception:  # noqa: BLE001 - what fails, and for how many steps, is told by the runs that follow
        return
    if found:
        raise SignatureError(say_half_precision(f"{type(theirs).__name__}.forward", found))


def gives_nan(module: nn.Module, steps: int) -> str:
    """Say that a module's answer holds NaN for a number of steps."""
    return (
        f"{type(module).__name__}.forward gives NaN for {steps} step{'s' * (steps > 1)}, expected numbers; look for a "
        "division by zero, a logarithm or root of what is below it, and a std() or var() over the steps "
        f"(unbiased=False takes one); {NARROWER}"
    )


def _rows_alone(network: ForeignNetwork, theirs: nn.Module, x: Tensor) -> Tensor:
    rows = [x[k : k + 1] for k in range(x.size(0))]
    return torch.cat(
        [_run_or_refuse(network, theirs, row, partial(network.call_as_it_came, theirs, row)) for row in rows]
    )


def _alike(one: Tensor, two: Tensor) -> bool:
    scale = max(1.0, float(one.abs().max()))
    return one.shape == two.shape and torch.allclose(one, two, rtol=1e-4, atol=1e-4 * scale, equal_nan=True)


def _shaken(module: nn.Module) -> nn.Module:
    """Return a copy with every weight off by about rounding; where that alone gives another answer, nothing is told."""
    shaken, generator = copy.deepcopy(module), torch.Generator().manual_seed(0)
    for weight in shaken.parameters():
        if weight.is_floating_point():
            weight.mul_(1.0 + _SHAKE * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return shaken


def _differs(name: str, steps: int, equal_for: int) -> str:
    if steps > equal_for > 0:
        return (
            f"{name}.forward does something else for {steps} steps than for up to {equal_for}, expected the same for "
            "any number; look for a condition on the number of steps, such as x.size(1) > N or t % N, and take it out"
        )
    return (
        f"{name} gives something else with its recurrent layers exchanged, for {steps} steps, "
        "and cellgate cannot tell why; write the network from the parts of cellgate.model"
    )


def _run_or_refuse(network: ForeignNetwork, theirs: nn.Module, x: Tensor, run: Callable[[], Tensor]) -> Tensor:
    try:
        return run()
    except Exception as err:
        name, said = type(theirs).__name__, said_by(err)
        rows, steps = x.shape[:2]
        if steps > network.probe_steps[1]:
            most = most_that_run(network, theirs, steps)
            raise FrozenAxisError(
                f"{name} allows the time at most {most}{place_of(err)} (for {steps} steps it said {said}), expected it "
                f"free; if it has a table of positions, read the last one from there on, clamp(max={most - 1})"
            ) from err
        remedy = "where it calls squeeze(), say which axis: squeeze(-1)"
        if "greater than 0" in said:  # pack_padded_sequence's word for a row of nothing but padding
            remedy = "where it counts the real steps of a row, let it count one at least: .clamp(min=1)"
        raise SignatureError(
            f"{name}.forward fails for {rows} row{'s' * (rows > 1)} of {steps} step{'s' * (steps > 1)} ({said}), "
            f"expected any number of both; {remedy}"
        ) from err
