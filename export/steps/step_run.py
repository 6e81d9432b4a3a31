"""One run of a module that takes one step, and what two runs tell: what a state goes into, chance, another start.

Rules of this file: a stranger's code runs here, and whatever it raises is an answer.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from ..foreign.answer import named_tensors, tensors_of
from ..foreign.call_modes import CpuOnly
from ..foreign.own_attributes import attributes_kept
from .state_candidates import ROWS
from .step_call import call
from .step_form import StepForm

_STEPS_TRIED: Final = 8  # of which one in two may reset the state


def draw_step(form: StepForm, rows: int, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Return a random step [B, I] or [B] and a random state."""
    generator = torch.Generator().manual_seed(seed)
    if form.takes_tokens:
        x = torch.randint(0, form.width, (rows,), generator=generator)
    else:
        x = torch.randn(rows, form.width, generator=generator)
    return x, [torch.randn(leaf.shape(rows), generator=generator) * 0.5 for leaf in form.leaves]


def run_step(module: nn.Module, form: StepForm, x: Tensor, leaves: list[Tensor]) -> Any:
    """Return what the module gives, or None where it does not run so or gives no tensor."""
    try:
        with CpuOnly(), attributes_kept(module):
            result = call(module, form, x, leaves)
    except Exception:  # noqa: BLE001 - a stranger's forward may refuse a wrong guess in any way it likes
        return None
    return result if any(True for _ in named_tensors(result)) else None


def reads(module: nn.Module, form: StepForm, old: int, new: int) -> bool:
    """Whether a state that is given back changes with one that was given."""
    rows = 1 if form.one_row else ROWS[0]
    x, leaves = draw_step(form, rows, seed=3)
    changed = [leaf + 1.0 if k == old else leaf for k, leaf in enumerate(leaves)]
    results = [tensors_of(run_step(module, form, x, state))[form.states[new]] for state in (leaves, changed)]
    return not torch.equal(*results)


def goes_into_something(module: nn.Module, form: StepForm, number: int) -> bool:
    """Whether anything that the module gives changes with one of its states, for some step: another may reset it."""
    for seed in range(5, 5 + _STEPS_TRIED):
        x, leaves = draw_step(form, 1, seed)
        changed = [leaf + 1.0 if k == number else leaf for k, leaf in enumerate(leaves)]
        pairs = zip(
            tensors_of(run_step(module, form, x, leaves)), tensors_of(run_step(module, form, x, changed)), strict=True
        )
        if any(not torch.equal(one, two) for one, two in pairs):
            return True
    return False


def draws(module: nn.Module, form: StepForm) -> bool:
    """Whether the module gives something else for the same step and state."""
    x, leaves = draw_step(form, 1, seed=6)
    pairs = zip(
        tensors_of(run_step(module, form, x, leaves)), tensors_of(run_step(module, form, x, leaves)), strict=True
    )
    return any(not torch.equal(one, two) for one, two in pairs)


@torch.no_grad()
def starts_elsewhere(module: nn.Module, form: StepForm) -> bool:
    """Whether the module runs without a state and then gives something else than from zeros."""
    x, leaves = draw_step(form, 1, seed=7)
    step, name = form.hand_over(x), form.arguments.sequence
    try:
        with CpuOnly(), attributes_kept(module):
            alone = tensors_of(module(step) if name in form.arguments.positional else module(**{name: step}))
    except Exception:  # noqa: BLE001 - most want a state, and say so in any way they like
        return False
    zeros = tensors_of(run_step(module, form, x, [torch.zeros_like(leaf) for leaf in leaves]))
    pairs = zip(alone, zeros, strict=False)
    return len(alone) != len(zeros) or not all(a.shape == b.shape and torch.allclose(a, b, atol=1e-6) for a, b in pairs)
