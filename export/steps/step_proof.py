"""The proof of a network made of a module that takes one step: against the module called by hand, step after step.

Zero and random states, several numbers of rows and steps, in float64 and in float32; y and every final state. In
float64 large states too, for a module may clip them. Which tensor of the network's state is which of the module's is
read off the final states of one run, then proved on the others.

Rules of this file: nothing is believed that a run can show; a stranger's code runs here, on copies.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from ..foreign.call_modes import CpuOnly, SinglesDoubled
from ..foreign.own_attributes import attributes_kept
from .step_call import StepCall
from .step_form import StepForm

if TYPE_CHECKING:
    from ..foreign.network import ForeignNetwork

_SHAPES: Final = ((3, 5), (1, 1), (4, 2), (2, 7), (1, 40), (2, 150))  # rows and steps
# Of the largest number: torch's fused and written-out forms differ by a few units a step, and float32 has 2^-24.
_TOLERANCES: Final = ((torch.float64, 1e-9), (torch.float32, 1e-4))
_STATE_SIZES: Final = (0.0, 1.0, 30.0)  # the last beyond what a clamp() of the state leaves alone


@torch.no_grad()
def find_parts(network: ForeignNetwork, module: nn.Module, form: StepForm) -> list[int] | None:
    """Return for each part of the network's state the number of the module's part that it is; None where not proved."""
    order = None
    for dtype, tolerance in _TOLERANCES:
        ours, theirs = copy.deepcopy(network).to(dtype), StepCall(copy.deepcopy(module).to(dtype).eval(), form)
        for seed, (rows, steps) in enumerate(_SHAPES):
            for size in _STATE_SIZES[: 3 if dtype == torch.float64 else 2]:
                x, leaves = _drawn(form, rows, steps, seed, dtype, size)
                said = _by_hand(network, theirs, x, leaves)
                if said is None:
                    return None
                y_hand, hand = said[0], _parts(form, said[1])
                if order is None:
                    order = _matched(ours, x, hand)
                if order is None or not _agree(ours, x, _parts(form, leaves), (y_hand, hand), order, tolerance):
                    return None
    return order


def _drawn(
    form: StepForm, rows: int, steps: int, seed: int, dtype: torch.dtype, size: float
) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    if form.takes_tokens:
        x = torch.randint(0, form.width, (rows, steps), generator=generator)
    else:
        x = torch.randn(rows, steps, form.width, generator=generator, dtype=torch.float64).to(dtype)
    return x, [
        (torch.randn(leaf.shape(rows), generator=generator, dtype=torch.float64) * size).to(dtype)
        for leaf in form.leaves
    ]


def _by_hand(
    network: ForeignNetwork, theirs: StepCall, x: Tensor, leaves: list[Tensor]
) -> tuple[Tensor, list[Tensor]] | None:
    """Run the module by hand; None where it does not run in float64, also with what its code makes in float64."""
    double = leaves[0].dtype == torch.float64
    # The network may have lost a float() that the module's own code still says.
    for doubled in (True,) if double and network.names_float32 else (False, True) if double else (False,):
        try:
            with ExitStack() as entered:
                entered.enter_context(CpuOnly())
                entered.enter_context(attributes_kept(theirs))
                if doubled:
                    entered.enter_context(SinglesDoubled())
                y, final = theirs.step_by_step(x, leaves)
        except Exception:  # noqa: BLE001, S112 - a stranger's code may refuse float64 in any way it likes
            continue
        if all(tensor.dtype == leaves[0].dtype for tensor in (y, *final)):
            return y, final
    return None


def _parts(form: StepForm, leaves: list[Tensor]) -> list[Tensor]:
    return [part for leaf, tensor in zip(form.leaves, leaves, strict=True) for part in leaf.to_parts(tensor)]


def _matched(network: ForeignNetwork, x: Tensor, hand: list[Tensor]) -> list[int] | None:
    """Match final states by their numbers."""
    _, final = network(x, None, network.zero_state(x.size(0)))
    left, order = list(range(len(hand))), []
    for part in (part for tensor in final for part in tensor.unbind(0)):
        fitting = [k for k in left if _close(part, hand[k], 1e-9)]
        if not fitting:
            return None
        left.remove(fitting[0])
        order.append(fitting[0])
    return None if left else order


def _agree(
    network: ForeignNetwork,
    x: Tensor,
    initial: list[Tensor],
    expected: tuple[Tensor, list[Tensor]],
    order: list[int],
    tolerance: float,
) -> bool:
    """Whether the network gives from a state what the module gives by hand."""
    placed = iter(order)
    state = [
        torch.stack([initial[next(placed)] for _ in range(tensor.size(0))], 0)
        for tensor in network.zero_state(x.size(0))
    ]
    y, final = network(x, None, state)
    parts = [part for tensor in final for part in tensor.unbind(0)]
    pairs = [(y, expected[0]), *((part, expected[1][k]) for part, k in zip(parts, order, strict=True))]
    return all(_close(one, two, tolerance) for one, two in pairs)


def _close(one: Tensor, two: Tensor, tolerance: float) -> bool:
    if one.shape != two.shape:
        return False
    scale = 1.0 + float(two.abs().max())
    return bool((one - two).abs().max() <= tolerance * scale)
