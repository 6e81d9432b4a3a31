"""What a foreign module does with a precision, a state and lengths, found out on runs.

A padded batch is compared with its rows alone, and a module that passes neither as it is nor with the last real step
repeated in the padding gets no lengths at all. That the whole is what the module was as it came is proved in
original_proof.py.

Rules of this file: every guess is checked on a run; where none holds, the network goes without.
"""

from __future__ import annotations

import copy
from itertools import product
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from ..error_line import said_by
from ..errors import ExportError, SignatureError
from .call_state import state_forms
from .input_trial import example
from .mask_probe import check_full_mask, masks_to_try, right_mask
from .steps_seen import lengths_to_try

if TYPE_CHECKING:
    from .call_mask import MaskForm
    from .network import ForeignNetwork

_FAR_FROM_ROUNDING: Final = 1e-3  # of float32, in numbers of about one


@torch.no_grad()
def find_precision(network: ForeignNetwork) -> None:
    """Find whether the module runs in float64 as it is, which it is judged in, or names float32 in its code."""
    twin = copy.deepcopy(network).double()
    try:
        runs = twin.call(example(twin, twin.probe_steps[0])).dtype == torch.float64
    except Exception:  # noqa: BLE001 - a stranger's forward may fail in any way
        runs = False
    network.names_float32 = not runs


@torch.no_grad()
def find_state(network: ForeignNetwork) -> None:
    """Carry the state if a random one, given as the module takes it, is what each layer begins with.

    None is carried where a chunk of one step is too short or a sequence may be too long, where the layers see other
    steps than were given (the steps that a front made of two chunks are not those that it makes of the whole), or where
    the answer has fewer.
    """
    if network.least_steps > 1 or network.most_steps is not None:
        return
    if not network.sees_steps or not network.answer_axis.is_every_step:
        return
    x = example(network, network.probe_steps[0])
    network.call(x)
    runs_once = all(count == 1 for count in network.carry.calls.values())
    own = [tensor for tensors in network.carry.given.values() for tensor in tensors]
    starts_at_zero = not any(bool(tensor.count_nonzero()) for tensor in own)
    if not (runs_once and starts_at_zero):
        return
    first = network.state_form
    forms = [*state_forms(first, len(network.stacks))] if network.roles.state else [first]
    for overrules, network.state_form in product((False, True), forms):
        network.carry.overrules = overrules
        if _state_arrives(network, x):
            network.carries_state = True
            return
    network.carry.overrules, network.state_form = False, first


def _state_arrives(network: ForeignNetwork, x: Tensor) -> bool:
    state = network.zero_state(x.size(0), seed=1)
    try:
        network.call(x, None, state)
    except Exception:  # noqa: BLE001 - then it does not take it in this form
        return False
    given = [tensor for tensors in network.carry.given.values() for tensor in tensors]
    if network.carry.overrules and any(bool(tensor.count_nonzero()) for tensor in given):
        return False  # the module makes something of the state, which must not be passed by
    used = [tensor for number in network.stacks for tensor in network.carry.used.get(number) or []]
    return len(used) == len(state) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(used, state, strict=True)
    )


def find_lengths(network: ForeignNetwork) -> None:
    """Compare a padded batch with its rows alone, for each way to fill the padding; without a state where that is why.

    A module that sorts its rows by length would give each row the state of another. Where the recurrent layers see
    other steps than were given, lengths can only be honoured by a module that takes them, or a mask.

    Raises:
        SignatureError: no row is right, and nothing tells what a mask that it needs says of a row that is not padded;
            or rows are right only where the longest fills the batch.
    """
    given, carried, masks = network.mask_form, network.carries_state, list(masks_to_try(network))
    for carries_state, forms in product((True, False) if carried else (False,), masks):
        network.carries_state = carries_state
        network.mask_form, found = right_mask(network, [form for form in forms if _is_honoured(network, form)])
        if found and _is_honoured(network, network.mask_form):
            _check_padded_further(network)
            return
    network.mask_form, network.carries_state = given, carried
    network.carry.fill, network.honours_lengths = "zero", False
    check_full_mask(network)


@torch.no_grad()
def _check_padded_further(network: ForeignNetwork) -> None:
    """See that rows are right too where a batch is padded further than its longest row."""
    if network.own_roles.lengths is None:
        return
    least, longest = network.least_steps, network.probe_steps[1]
    lengths, said = torch.tensor([longest, least, longest - 1]), "it gives something else"
    try:
        if _agree(network, longest + 3, lengths, _FAR_FROM_ROUNDING):
            return
    except Exception as err:  # noqa: BLE001 - a stranger's forward may fail in any way
        said = f"it said {said_by(err)}"
    raise SignatureError(
        f"{type(network.module).__name__}.forward is right only where the longest row fills the batch (where it has "
        f"{longest} of {longest + 3} steps {said}), expected any padding; take x.size(1) in the place of what it "
        f"computes from {network.own_roles.lengths}"
    )


def _is_honoured(network: ForeignNetwork, form: MaskForm | None) -> bool:
    network.mask_form = form
    return _lengths_are_honoured(network)


def _lengths_are_honoured(network: ForeignNetwork) -> bool:
    """Compare in float64, so that even a small leak shows; in the module's dtype where its code is bound to that."""
    twin = copy.deepcopy(network).double()
    twin.honours_lengths = True
    for fill in ("zero", "last"):
        twin.carry.fill = fill
        agree = _rows_alone_agree(twin, 1e-9)
        if agree is None:
            network.carry.fill, network.honours_lengths = fill, True
            agree = _rows_alone_agree(network, 1e-5)
        if agree:
            network.carry.fill, network.honours_lengths = fill, True
            return True
    return False


@torch.no_grad()
def _rows_alone_agree(network: ForeignNetwork, tolerance: float) -> bool | None:
    """Return whether they do, or None where the module does not run so."""
    try:
        return all(_agree(network, steps, lengths, tolerance) for steps, lengths in lengths_to_try(network))
    except ExportError:
        raise
    except Exception:  # noqa: BLE001 - a stranger's forward may fail in any way
        return None


def _agree(network: ForeignNetwork, steps: int, lengths: Tensor, tolerance: float) -> bool:
    x = example(network, steps, len(lengths), seed=1)
    y, final = network(x, lengths)
    far = steps > network.probe_steps[1] + 1
    tolerance *= 10 if far else 1  # rounding adds up
    for row, count in enumerate(lengths.tolist()):
        y_alone, final_alone = network(x[row : row + 1, :count], lengths[row : row + 1])
        y_row = y[row : row + 1, : network.answer_axis.size(count)] if network.per_step else y[row : row + 1]
        if far and not bool(y_alone.isfinite().all()):
            continue  # it grows without bounds, and nothing is told by what is left of it
        pairs = [(y_row, y_alone), *((a[:, row : row + 1], b) for a, b in zip(final, final_alone, strict=True))]
        if not all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs):
            return False
    return True
