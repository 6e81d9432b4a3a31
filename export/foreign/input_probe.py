"""How a foreign module takes its sequence, found out on runs: the layout, the width, and whether it needs the CPU.

Rules of this file: where nothing runs, further runs find out why, and a SignatureError says it with its remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from ..error_line import first_line, said_by
from ..errors import AnswerError, ExportError, SignatureError
from .call_layout import InputLayout, input_layouts
from .call_mask import MaskForm, further_marks, mask_forms, says_too_much
from .call_modes import wants_cuda
from .call_roles import left_at_none
from .call_state import StateForm, state_forms
from .input_search import LOOP_AROUND, number_of_tokens, only_width, takes_something_else

if TYPE_CHECKING:
    from .network import ForeignNetwork

PROBE_STEPS: Final = (5, 7)
PROBE_ROWS: Final = 3
PROBES: Final = (PROBE_STEPS, (61, 127), (1021, 2039))  # more where a front needs more than the usual
_LONGEST_FIXED: Final = 2**12
Input = tuple[InputLayout, bool, int]
"""The layout, whether tokens are taken, and the width or the number of tokens."""


def example(network: ForeignNetwork, steps: int, rows: int | None = None, seed: int = 0) -> Tensor:
    """Return a random sequence [B, T, I], or tokens [B, T]; one row where the module takes one at a time."""
    generator = torch.Generator().manual_seed(seed)
    rows = rows or (1 if network.input_layout.one_at_a_time else PROBE_ROWS)
    if network.takes_tokens:
        tokens = torch.randint(0, network.input_dim, (rows, steps), generator=generator)
        tokens[0, 0] = network.input_dim - 1  # another table of the module may be smaller
        return tokens
    return torch.randn(rows, steps, network.input_dim, generator=generator, dtype=network.dtype())


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
        raise SignatureError(_no_input(network, tried, complaint, told=not searches))


def _first_that_runs(network: ForeignNetwork, tried: Sequence[Input]) -> tuple[bool, Exception | None]:
    """Set what runs; return whether anything does, and what was said to the first that does not."""
    complaint: Exception | None = None
    for probed, (layout, takes_tokens, width) in product(PROBES, tried):
        network.input_layout, network.takes_tokens, network.input_dim = layout, takes_tokens, width
        for form, mask in product(_state_forms(network), _mask_forms(network)):
            network.state_form, network.mask_form = form, mask
            err = _complaint_of(network, probed)
            if err is not None and not network.stays_on_cpu and wants_cuda(err):
                network.stays_on_cpu = True
                err = _complaint_of(network, probed)
            if err is None:
                network.probe_steps = probed
                return True, complaint
            complaint = complaint or err
    return False, complaint


def _found_by_trying(network: ForeignNetwork, tried: Sequence[Input]) -> bool:
    """Set the input of the first kind of which just one runs; return whether there is one."""

    def runs(layout: InputLayout, count: int, *, takes_tokens: bool = False) -> bool:
        network.input_layout, network.takes_tokens, network.input_dim = layout, takes_tokens, count
        network.mask_form = _mask_forms(network)[0]
        network.probe_steps = next((p for p in PROBES[:2] if _complaint_of(network, p) is None), (0, 0))
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


def _mask_forms(network: ForeignNetwork) -> list[MaskForm | None]:
    """Return the masks to try where forward needs one; None where it does not."""
    name = network.roles.mask if network.roles.needs_mask else None
    return [None] if name is None else [*mask_forms(name, network.input_layout)]


def _complaint_of(network: ForeignNetwork, probed: tuple[int, ...] = PROBE_STEPS) -> Exception | None:
    """Return why the module does not run so; None where it runs for each number of steps, row beside row.

    A layer may run on several series of each row, as many for every number of steps.
    """
    series: set[float] = set()
    try:
        for steps in probed:
            x = example(network, steps)
            y = network.call(x)
            seen = [rows for rows, _ in network.carry.shapes.values()]
            series.add(1.0 if not seen or x.size(0) in seen else seen[0] / x.size(0))
            if series != {1.0} and (len(series) > 1 or len(probed) == 1 or not min(series).is_integer()):
                return ExportError(f"its recurrent layers saw {seen[0]} rows where {x.size(0)} were given")
            # A mask of another form may have been broadcast over the rows.
            if network.mask_form is not None and x.size(0) * network.call(x[:1]).numel() != y.numel():
                return ExportError(f"with a mask {network.mask_form.words} its answer has not a part for each row")
    except AnswerError:
        raise  # it runs, and no other input would make another kind of answer
    except Exception as err:  # noqa: BLE001 - a stranger's forward may fail in any way
        return err
    return None


def _no_input(network: ForeignNetwork, tried: Sequence[Input], complaint: Exception | None, *, told: bool) -> str:
    """Say why no input was found, with a remedy for what is found out on further runs."""
    name = type(network.module).__name__
    if isinstance(complaint, ImportError):  # the folder of the file is on the path only while the file is loaded
        return (
            f"{name}.forward cannot import what it needs ({first_line(complaint)}), expected nothing to import while "
            "it runs; import it at the top of its file"
        )
    widths = ", ".join(dict.fromkeys(str(width) for _, _, width in tried)) or "none"
    said = "nothing" if complaint is None else said_by(complaint)
    network.state_form = StateForm()
    only = _only_length(network, tried)
    if only is not None:
        return (
            f"{name}.forward runs for sequences of {only} steps alone (for {PROBE_STEPS[0]} it said {said}), expected "
            "any number; let it take the length from x.size(1), and let its head read one step or a mean over them"
        )
    too_much = _mask_that_says_more(network, tried)
    if too_much is not None:
        return says_too_much(name, str(network.roles.mask), too_much)
    if _takes_single_steps(network, tried):
        return (
            f"{name}.forward takes a single step, expected a whole sequence; let it give its recurrent layer all "
            f"steps, [B, T, I], in one call; {LOOP_AROUND}"
        )
    if any(isinstance(child, nn.Conv2d | nn.Conv3d) for child in network.module.modules()):
        return (
            f"{name}.forward takes images (it has nn.Conv2d; it said {said}), expected a sequence of vectors or "
            "tokens; name a factory that returns its recurrent part alone, or a module around it whose forward(x) "
            "makes its images of one x [B, T, I], and say --input-dim"
        )
    fixed = {n for child in network.module.modules() for n, v in vars(child).items() if "batch" in n and type(v) is int}
    remedy = f"make it with {min(fixed)} = 1, or " if fixed else ""
    masked = "" if network.mask_form is None else f" with a {network.roles.mask} of a mark for each step"
    remedy += takes_something_else(said, left_at_none(network.module, network.roles))
    return (
        f"{name}.forward runs for no input width (tried {widths}){masked}; it said {said}; {remedy}say "
        f"{'another ' * told}--input-dim"
    )


def _settings(network: ForeignNetwork, tried: Sequence[Input]) -> Iterator[None]:
    """Set one layout and width after the other."""
    for layout, takes_tokens, width in tried:
        network.input_layout, network.takes_tokens, network.input_dim = layout, takes_tokens, width
        network.mask_form = _mask_forms(network)[0]
        yield


def _mask_that_says_more(network: ForeignNetwork, tried: Sequence[Input]) -> MaskForm | None:
    """Return a mask with which the module that needs one runs, and which no lengths tell."""
    for _ in _settings(network, tried):
        for form in [] if network.mask_form is None else mask_forms(str(network.roles.mask), network.input_layout):
            for network.mask_form in further_marks(form):
                usable = "I" not in network.mask_form.axes or not network.takes_tokens
                if usable and _complaint_of(network) is None:
                    return network.mask_form
    return None


def _takes_single_steps(network: ForeignNetwork, tried: Sequence[Input]) -> bool:
    for takes_tokens, width in dict.fromkeys((takes_tokens, width) for _, takes_tokens, width in tried):
        network.takes_tokens, network.input_dim = takes_tokens, width
        network.mask_form = _mask_forms(network)[0]
        network.input_layout = InputLayout("B" if takes_tokens else "BI")
        if _complaint_of(network, (1,)) is None:
            return True
    return False


def _only_length(network: ForeignNetwork, tried: Sequence[Input]) -> int | None:
    """Return a number of steps that the module names itself, or that its head reads, where it runs for that alone."""
    named = {
        value
        for child in network.module.modules()
        for name, value in vars(child).items()
        if type(value) is int and any(word in name.lower() for word in ("len", "step", "window", "time", "seq"))
    }
    hidden = {tensor.width for tensors in network.stacks.values() for tensor in tensors}
    linear = {child.in_features for child in network.module.modules() if isinstance(child, nn.Linear)}
    named |= {width // (H * k) for width in linear for H in hidden for k in (1, 2) if width % (H * k) == 0}
    tries = sorted(value for value in named if 1 < value <= _LONGEST_FIXED and value not in PROBE_STEPS)
    for steps in tries:
        if any(_complaint_of(network, (steps,)) is None for _ in _settings(network, tried)):
            return steps
    for seen in tries:  # behind a front that leaves fewer
        for _ in _settings(network, tried):
            count = _steps_that_leave(network, seen)
            if count is not None and _complaint_of(network, (count,)) is None:
                return count
    return None


def _steps_that_leave(network: ForeignNetwork, seen: int) -> int | None:
    """Return the fewest steps of which a recurrent layer sees at least so many, whatever comes of it afterwards."""

    def left(steps: int) -> int:
        with suppress(Exception):  # a head of one length fails, and the layers have run by then
            network.call(example(network, steps))
        return max((count for counts in network.carry.steps.values() for count in counts), default=0)

    few, enough = 0, seen
    while left(enough) < seen:
        few, enough = enough, 2 * enough
        if enough > _LONGEST_FIXED:
            return None
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if left(middle) >= seen else (middle, enough)
    return enough
