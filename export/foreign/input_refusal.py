"""Why a foreign module runs for no input: further runs find it out, and a sentence says it with its remedy.

Rules of this file: the sentence alone counts. The network is no use any more, so its settings are left as they come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from torch import nn

from ..error_line import first_line, said_by
from .call_layout import InputLayout
from .call_mask import MaskForm, further_marks, mask_forms, says_too_much
from .call_roles import left_at_none
from .call_state import StateForm
from .input_trial import PROBE_ROWS, PROBE_STEPS, Input, complaint_of, example, needed_masks

if TYPE_CHECKING:
    from .network import ForeignNetwork

_LONGEST_FIXED: Final = 2**12
LOOP_AROUND: Final = (
    "let it take its state as an argument and give it back, or, where it keeps it in itself, give a module around it "
    "whose forward(x) is torch.stack([self.net(step) for step in x.unbind(1)], 1)"
)


def no_input(network: ForeignNetwork, tried: Sequence[Input], complaint: Exception | None, *, told: bool) -> str:
    """Say why no input was found, with a remedy for what is found out on further runs.

    Args:
        network: set to anything.
        tried: every input that was.
        complaint: what was said to the first of them.
        told: whether the width was told, and not read off the module.
    """
    name = type(network.module).__name__
    if isinstance(complaint, ImportError):  # the folder of the file is on the path only while the file is loaded
        return (
            f"{name}.forward cannot import what it needs ({first_line(complaint)}), expected nothing to import while "
            "it runs; import it at the top of its file"
        )
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
        return says_too_much(name, network.roles.sequence, str(network.roles.mask), too_much)
    if _takes_single_steps(network, tried):
        return (
            f"{name}.forward takes a single step, expected a whole sequence; let it give its recurrent layer all "
            f"steps, [B, T, I], in one call; {LOOP_AROUND}"
        )
    return _takes_images(network, said) or _no_width(network, tried, said, told=told)


def takes_something_else(said: str, left: Iterable[str] = (), sequence: str = "x") -> str:
    """Return what helps where a complaint is about what was given, and not about its width; else nothing.

    Args:
        said: by the module.
        left: arguments of its forward that were left at None.
        sequence: the argument that is the sequence.
    """
    wanted = next((name for name in left if re.search(rf"\b{re.escape(name)}\b", said) or "NoneType" in said), None)
    if wanted is not None:
        return (
            f"where forward needs {wanted}, which was left at None, say how many columns of one x each has, as "
            f"--columns {sequence}=3,{wanted}=1 (docs/modules.md, several inputs), else "
        )
    told_by = (
        "unpack",
        "too many indices",
        "data type 'str'",
        "has no attribute",
        "indices must be",
        "out of range (exp",
        f"saw 1 rows where {PROBE_ROWS} ",  # as many rows were probed as it unpacks things
    )
    if not any(words in said for words in told_by):
        return ""
    return (
        "where forward takes a dict, a tuple or more axes than [B, T, I], give a module around it whose forward(x) "
        "makes that of one x [B, T, I], as self.net(x.unflatten(-1, (17, 3))), and "
    )


def _takes_images(network: ForeignNetwork, said: str) -> str | None:
    seen_by = next((child for child in network.module.modules() if isinstance(child, nn.Conv2d | nn.Conv3d)), None)
    if seen_by is None:
        return None
    kind = "nn.Conv3d" if isinstance(seen_by, nn.Conv3d) else "nn.Conv2d"
    return (
        f"{type(network.module).__name__}.forward takes images (it has {kind}; it said {said}), expected a sequence "
        "of vectors or tokens; name a factory that returns its recurrent part alone, or a module around it whose "
        "forward(x) makes its images of one x [B, T, I], and say --input-dim"
    )


def _no_width(network: ForeignNetwork, tried: Sequence[Input], said: str, *, told: bool) -> str:
    """Say what was tried, where nothing else is known."""
    widths = ", ".join(dict.fromkeys(str(width) for _, _, width in tried)) or "none"
    fixed = {n for child in network.module.modules() for n, v in vars(child).items() if "batch" in n and type(v) is int}
    remedy = f"make it with {min(fixed)} = 1, or " if fixed else ""
    masked = "" if network.mask_form is None else f" with a {network.roles.mask} of a mark for each step"
    remedy += takes_something_else(said, left_at_none(network.module, network.roles), network.roles.sequence)
    return (
        f"{type(network.module).__name__}.forward runs for no input width (tried {widths}){masked}; it said {said}; "
        f"{remedy}say {'another ' * told}--input-dim"
    )


def _settings(network: ForeignNetwork, tried: Sequence[Input]) -> Iterator[None]:
    """Set one layout and width after the other."""
    for layout, takes_tokens, width in tried:
        network.input_layout, network.takes_tokens, network.input_dim = layout, takes_tokens, width
        network.mask_form = needed_masks(network)[0]
        yield


def _mask_that_says_more(network: ForeignNetwork, tried: Sequence[Input]) -> MaskForm | None:
    """Return a mask with which the module that needs one runs, and which no lengths tell."""
    for _ in _settings(network, tried):
        for form in [] if network.mask_form is None else mask_forms(str(network.roles.mask), network.input_layout):
            for network.mask_form in further_marks(form):
                usable = "I" not in network.mask_form.axes or not network.takes_tokens
                if usable and complaint_of(network) is None:
                    return network.mask_form
    return None


def _takes_single_steps(network: ForeignNetwork, tried: Sequence[Input]) -> bool:
    for takes_tokens, width in dict.fromkeys((takes_tokens, width) for _, takes_tokens, width in tried):
        network.takes_tokens, network.input_dim = takes_tokens, width
        network.mask_form = needed_masks(network)[0]
        network.input_layout = InputLayout("B" if takes_tokens else "BI")
        if complaint_of(network, (1,)) is None:
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
        if any(complaint_of(network, (steps,)) is None for _ in _settings(network, tried)):
            return steps
    for seen in tries:  # behind a front that leaves fewer
        for _ in _settings(network, tried):
            count = _steps_that_leave(network, seen)
            if count is not None and complaint_of(network, (count,)) is None:
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
