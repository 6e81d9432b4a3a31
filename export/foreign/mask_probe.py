"""Which mask a foreign module takes, found out on runs: its axes, its dtype, and whether True is real or padding.

A mask that says that all steps are padding hides them: then fewer numbers of the answer depend on fewer steps, or the
answer is NaN, which is how the wrong polarity shows where no row is padded. Of an optional mask the right polarity
also gives what the module gives without one. The last word is that of a padded batch beside its rows alone
(probes.py).

Rules of this file: the name of an argument decides only where no run does, and a name that says nothing never does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from ..errors import SignatureError
from .call_mask import MaskForm, further_marks, mask_forms, polarity_said, says_too_much
from .exchanged_layer import ExchangedLayer
from .input_trial import example

if TYPE_CHECKING:
    from .network import ForeignNetwork

_PLACES: Final = 8  # steps that are changed, one at a time; all of the usual probe
_EQUAL: Final = 1e-5  # of float32


@torch.no_grad()
def find_mask(network: ForeignNetwork) -> None:
    """Turn the mask that the module needs, and with which it runs, where the other polarity shows more of its steps.

    Raises:
        SignatureError: it takes a mask [T, T] or [B, T, I] as well, which would say more than which steps are real.
    """
    form, name = network.mask_form, network.roles.mask
    if form is None or name is None:
        return
    more = _taken_as_well(network, form)
    if more is not None:
        raise SignatureError(says_too_much(type(network.module).__name__, network.roles.sequence, name, more))
    if _shows_more(network, form.turned, form):
        network.mask_form = form.turned


@torch.no_grad()
def masks_to_try(network: ForeignNetwork) -> Iterator[tuple[MaskForm | None, ...]]:
    """Yield the masks that may be right: alone, or the two polarities between which no run at full length decides.

    None stands for no mask: all that there is where forward takes none, and the first to try where it is optional.
    Where the recurrent layers see other steps than were given, rows can only be right by what forward takes.
    """
    given, name, needed = network.mask_form, network.roles.mask, network.roles.needs_mask
    if not needed and (network.sees_steps or network.own_roles.lengths is not None):
        yield (None,)
    if name is None:
        return
    forms = mask_forms(name, network.input_layout)
    for _, pair in groupby(forms, key=lambda form: (form.axes, form.kind)):
        one, other = pair
        if needed:
            left = [form for form in (one, other) if _answer(network, form) is not None]
            if len(left) > 1:
                left = [form for form in left if not _shows_more(network, form.turned, form)]
        else:
            left = [form for form in (one, other) if _same_answer(network, form, None)]
        if left and _taken_as_well(network, left[0]) is None:
            yield tuple(left)
    network.mask_form = given


@torch.no_grad()
def right_mask(network: ForeignNetwork, honoured: list[MaskForm | None]) -> tuple[MaskForm | None, bool]:
    """Return which of the masks of one try that rows are right by is to be taken, and whether there is one.

    Where both polarities are, and the module gives the same for either, it does not matter.
    """
    first, *further = honoured or [None]
    if not further or _same_answer(network, first, further[0]):
        return first, bool(honoured)
    return first, network.roles.mask is not None and polarity_said(network.roles.mask) is not None


@torch.no_grad()
def check_full_mask(network: ForeignNetwork) -> None:
    """See that the mask of a module whose rows are right in no form says "all real" at least.

    Raises:
        SignatureError: neither a run nor the name of the argument tells its polarity.
    """
    form, name = network.mask_form, network.roles.mask
    if form is None or name is None or polarity_said(name) is not None:
        return
    if _same_answer(network, form, form.turned) or _shows_more(network, form, form.turned):
        return
    raise SignatureError(
        f"{type(network.module).__name__}.forward needs {name}, and no run tells whether True in it is a real step or "
        "padding; call it attention_mask where True is real, "
        "padding_mask where it is padding"
    )


@torch.no_grad()
def check_kind(network: ForeignNetwork) -> None:
    """See that a mask of floats says the same, where the module takes one.

    A sum of two bool masks is their "or"; who adds two masks of numbers and is given bool gets something else.

    Raises:
        SignatureError: it says something else, and no run tells which is meant.
    """
    form, name = network.mask_form, network.roles.mask
    if form is None or form.kind == "float32":
        return
    other = replace(form, kind="float32")
    runs = [_answer(network, one) is not None for one in (form, other)]
    network.mask_form = form
    if all(runs) and not _same_answer(network, form, other):
        kind = "bool" if form.kind == "bool" else "long"
        raise SignatureError(
            f"{type(network.module).__name__}.forward gives something else for {name} of {form.kind} than of float32, "
            f"expected the same, for no run tells which it wants; begin it with {name} = {name}.float(), or with "
            f"{name}.{kind}()"
        )


def _answer(network: ForeignNetwork, form: MaskForm | None, x: Tensor | None = None) -> Tensor | None:
    """Return what the module gives with a mask that says that all steps are real; None where it fails, or gives NaN."""
    network.mask_form = form
    try:
        y = network.call(example(network, network.probe_steps[0]) if x is None else x)
    except Exception:  # noqa: BLE001 - a stranger's forward may fail in any way
        return None
    return y if bool(y.isfinite().all()) else None


def _taken_as_well(network: ForeignNetwork, form: MaskForm) -> MaskForm | None:
    """Return what says more than this form and is taken just so, as by broadcasting it may be."""
    given = network.mask_form
    due = _shapes(network, form)
    several = not network.takes_tokens and network.input_dim > 1
    further = [one for one in further_marks(form) if several or "I" not in one.axes]
    found = next((one for one in further if _shapes(network, one) == due), None)
    network.mask_form = given
    return found


def _shapes(network: ForeignNetwork, form: MaskForm) -> list[torch.Size | None]:
    answers = [_answer(network, form, example(network, steps)) for steps in network.probe_steps]
    return [None if y is None else y.shape for y in answers]


def _same_answer(network: ForeignNetwork, one: MaskForm | None, other: MaskForm | None) -> bool:
    given = network.mask_form
    answers = [_answer(network, form) for form in (one, other)]
    network.mask_form = given
    a, b = answers
    return a is not None and b is not None and a.shape == b.shape and torch.allclose(a, b, rtol=_EQUAL, atol=_EQUAL)


def _shows_more(network: ForeignNetwork, one: MaskForm, other: MaskForm) -> bool:
    """Whether the answer depends on more steps under the first mask, and on all that it does under the second.

    What depends on the steps of the sequence is asked first; where that is the same, on those of each layer's output.
    """
    given = network.mask_form
    shown = [_dependence(network, form) for form in (one, other)]
    network.mask_form = given
    if None in shown:
        return shown[0] is not None
    for more, fewer in zip(*(found or [] for found in shown), strict=False):
        if more.shape != fewer.shape:
            return False
        if not torch.equal(more, fewer):
            return bool((more >= fewer).all())
    return False


def _dependence(network: ForeignNetwork, form: MaskForm) -> list[Tensor] | None:
    """Return, for the sequence and for each layer, which numbers of the answer change with a step [steps, numbers]."""
    x = example(network, network.probe_steps[0])
    y = _answer(network, form, x)
    if y is None:
        return None
    seen = {number: max(steps) for number, steps in network.carry.steps.items()}
    other = (x + 1) % network.input_dim if network.takes_tokens else example(network, x.size(1), seed=3)
    changed = []
    for place in _places(x.size(1)):
        moved = x.clone()
        moved[:, place] = other[:, place]
        changed.append(_changed(y, _answer(network, form, moved)))
    found = [torch.stack(changed)]
    layers = [layer for layer in network.module.modules() if isinstance(layer, ExchangedLayer) and layer.number in seen]
    for layer in layers:
        places = _places(seen[layer.number])
        found.append(torch.stack([_changed(y, _answer_moved(network, form, layer, place)) for place in places]))
    return found


def _places(steps: int) -> list[int]:
    return list(range(steps))[:: -(-steps // _PLACES)]


def _answer_moved(network: ForeignNetwork, form: MaskForm, layer: ExchangedLayer, place: int) -> Tensor | None:
    """As _answer, with a layer's output moved at one step."""

    def move(_layer: Any, _given: Any, returned: Any) -> Any:
        output, state = returned
        if not isinstance(output, Tensor) or output.dim() < 3:  # noqa: PLR2004 - a layer calls itself for these, [B, T, H]
            return None
        output = output.clone()
        output.select(1 if layer.batch_first else 0, min(place, output.size(1 if layer.batch_first else 0) - 1)).add_(1)
        return output, state

    hook = layer.register_forward_hook(move)
    try:
        return _answer(network, form)
    finally:
        hook.remove()


def _changed(y: Tensor, moved: Tensor | None) -> Tensor:
    """Return which numbers of y changed; all of them where there is nothing to compare with."""
    if moved is None or moved.shape != y.shape:
        return torch.ones(y.numel(), dtype=torch.bool)
    return (moved != y).flatten()
