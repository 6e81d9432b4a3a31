"""How a foreign module takes its sequence, found out on runs: the layout, the width, and whether it needs the CPU.

Rules of this file: the first input that runs is taken, in the order in which they are handed in. Why none does is said
by `input_refusal`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import torch

from ..errors import SignatureError
from .call_layout import InputLayout, input_layouts
from .call_modes import wants_cuda
from .call_state import StateForm, state_forms
from .input_refusal import no_input
from .input_search import number_of_tokens, only_width
from .input_trial import PROBES, Input, complaint_of, needed_masks

if TYPE_CHECKING:
    from .network import ForeignNetwork


@torch.no_grad()
def find_input(network: ForeignNetwork, tried: Sequence[Input], *, searches: bool = False) -> None:
    """Try each input, first come first tried, until one runs; then, where told so, widths that no layer tells.

    A mask that has a default without which nothing runs is needed all the same.

    Raises:
        SignatureError: none runs.
        AnswerError: what it returns is no answer.
    """
    runs, complaint = _first_that_runs(network, tried)
    roles = network.roles
    if not runs and roles.mask is not None and not roles.needs_mask:
        network.own_roles = network.roles = replace(roles, needs_mask=True)
        runs, _ = _first_that_runs(network, tried)
        if not runs:
            network.own_roles, network.roles, network.mask_form = roles, roles, None
    if not runs and not (searches and _found_by_trying(network, tried)):
        raise SignatureError(no_input(network, tried, complaint, told=not searches))


def _first_that_runs(network: ForeignNetwork, tried: Sequence[Input]) -> tuple[bool, Exception | None]:
    """Set what runs; return whether anything does, and what was said to the first that does not."""
    complaint: Exception | None = None
    for probed, (layout, takes_tokens, width) in product(PROBES, tried):
        network.input_layout, network.takes_tokens, network.input_dim = layout, takes_tokens, width
        for form, mask in product(_state_forms(network), needed_masks(network)):
            network.state_form, network.mask_form = form, mask
            err = complaint_of(network, probed)
            if err is not None and not network.stays_on_cpu and wants_cuda(err):
                network.stays_on_cpu = True
                err = complaint_of(network, probed)
            if err is None:
                network.probe_steps = probed
                return True, complaint
            complaint = complaint or err
    return False, complaint


def _found_by_trying(network: ForeignNetwork, tried: Sequence[Input]) -> bool:
    """Set the input of the first kind of which just one runs; return whether there is one."""

    def runs(layout: InputLayout, count: int, *, takes_tokens: bool = False) -> bool:
        network.input_layout, network.takes_tokens, network.input_dim = layout, takes_tokens, count
        network.mask_form = needed_masks(network)[0]
        network.probe_steps = next((p for p in PROBES[:2] if complaint_of(network, p) is None), (0, 0))
        return network.probe_steps != (0, 0)

    widths = list(dict.fromkeys(width for _, takes_tokens, width in tried if not takes_tokens))
    vectors = [layout for layout in input_layouts(takes_tokens=False, width=0) if not layout.one_at_a_time]
    numbers = [layout for layout in input_layouts(takes_tokens=False, width=1) if "I" not in layout.axes]
    given = network.probe_steps
    for layout in vectors:
        width = only_width(partial(runs, layout), type(network.module).__name__)
        if width is not None:
            return runs(layout, width)
    if any(runs(layout, 1) for layout in numbers if not layout.one_at_a_time):
        return True
    for layout in input_layouts(takes_tokens=True, width=0):
        tokens = None if layout.one_at_a_time else number_of_tokens(partial(runs, layout, takes_tokens=True), widths)
        if tokens is not None:
            return runs(layout, tokens, takes_tokens=True)
    network.probe_steps = given
    return False


def inputs_to_try(tried: Sequence[tuple[bool, int]]) -> Iterator[Input]:
    """Yield every layout with each (takes tokens, width), usual layouts first and one sequence at a time last."""
    every = [
        (rank, layout, takes_tokens, width)
        for takes_tokens, width in tried
        for rank, layout in enumerate(input_layouts(takes_tokens=takes_tokens, width=width))
    ]
    yield from (item[1:] for item in sorted(every, key=lambda item: (item[1].one_at_a_time, item[0])))


def _state_forms(network: ForeignNetwork) -> list[StateForm]:
    return [*state_forms(StateForm(), len(network.stacks))] if network.roles.needs_state else [network.state_form]
