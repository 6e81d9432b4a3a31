"""Which form each argument has that is cut out of x, found out on runs: its axes, its dtype, how many whole numbers.

Rules of this file: the forms are tried in the order of `Column.forms`, the most usual of all arguments together first;
the first with which the module runs is taken, and what follows holds it against the module in every other way.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Final

import torch
from torch import nn

from ..error_line import said_by
from ..errors import SignatureError
from .call import ForeignCall
from .call_layout import InputLayout
from .call_modes import wants_cuda
from .call_state import StateForm, state_forms
from .columns import ANY_NUMBER, Column, said
from .cut_inputs import CutInputs
from .input_refusal import takes_something_else
from .input_trial import complaint_of, example, needed_masks

_MOST_TRIED: Final = 20_000
_UNLIMITED: Final = 2**22  # of whole numbers that are tried


@torch.no_grad()
def cut_inputs(
    module: nn.Module, columns: Sequence[Column], told: Mapping[str, str] | None, answer: str | None
) -> tuple[CutInputs, SignatureError | None]:
    """Return the module behind a forward that cuts ``columns`` out of its one sequence, their forms found.

    Args:
        module: not changed.
        columns: as told.
        told: as for find_roles, without the sequence.
        answer: as for Answer.

    Returns:
        The module, and what to say where it runs with no form, as one that takes a single step does: every argument
        then has the first.

    Raises:
        SignatureError: it has no such argument, or no run tells how many whole numbers there are.
    """
    trial = ForeignCall(CutInputs(module, columns), told, answer)
    trial.find_stacks()
    first = [next(column.forms()) for column in columns]
    complaint: Exception | None = None
    for forms, layout in product(_combined(columns), (InputLayout("BTI"), InputLayout("TBI"))):
        err = _complaint(trial, forms, layout)
        if err is None:
            counted = _counted(trial, type(module).__name__, forms)
            return CutInputs(module, counted, layout.axes.index("T")), None
        complaint = complaint or err
    assert complaint is not None
    refusal = SignatureError(
        f"{type(module).__name__}.forward runs with no form of its inputs (--columns {said(first)} and others tried); "
        f"it said {said_by(complaint)}; {takes_something_else(said_by(complaint))}give another width, or say the axes, "
        "the dtype and how many whole numbers there are, as delta=1:BT or kind=1:BT:int64:10"
    )
    if _at_zero(first) != tuple(first):  # how many there are can only be found where it runs
        raise refusal
    return CutInputs(module, first), refusal


def _combined(columns: Sequence[Column]) -> Iterator[tuple[Column, ...]]:
    """Yield forms for all arguments: single columns alike, as several streams of tokens are; then all, by their ranks.

    Those come first that are nearest to the most usual of each, and not all where there are too many.
    """
    forms = [[*column.forms()] for column in columns]
    for rank in range(max(map(len, forms))):
        alike = [rank if column.width == 1 and rank < len(of) else 0 for column, of in zip(columns, forms, strict=True)]
        yield tuple(of[k] for of, k in zip(forms, alike, strict=True))
    every = (ranks for total in range(sum(map(len, forms))) for ranks in _ranks([*map(len, forms)], total))
    for ranks in islice(every, _MOST_TRIED):
        yield tuple(of[k] for of, k in zip(forms, ranks, strict=True))


def _ranks(sizes: Sequence[int], total: int) -> Iterator[tuple[int, ...]]:
    """Yield numbers below each of ``sizes`` whose sum is ``total``."""
    if not sizes:
        yield from [()] if total == 0 else []
        return
    for first in range(min(sizes[0], total + 1)):
        if total - first <= sum(size - 1 for size in sizes[1:]):
            yield from ((first, *rest) for rest in _ranks(sizes[1:], total - first))


def _at_zero(forms: Sequence[Column]) -> tuple[Column, ...]:
    """Return forms that can be run: whole numbers of which it is not known how many there are, are all 0."""
    return tuple(
        replace(column, counts=(1,)) if column.dtype == torch.int64 and column.counts is None else column
        for column in forms
    )


def _complaint(trial: ForeignCall, forms: Sequence[Column], layout: InputLayout) -> Exception | None:
    """Return why the module does not run so, row beside row; None where it does."""
    assert isinstance(trial.module, CutInputs)
    trial.module.columns, trial.module.time_axis = _at_zero(forms), layout.axes.index("T")
    trial.input_layout, trial.input_dim = layout, trial.module.width
    states = [trial.state_form]
    if trial.roles.needs_state:
        states = [*state_forms(StateForm(), len(trial.stacks))]
    complaint: Exception | None = None
    for state_form, mask in product(states, needed_masks(trial)):
        trial.state_form, trial.mask_form = state_form, mask
        err = complaint_of(trial)
        if err is not None and not trial.stays_on_cpu and wants_cuda(err):
            trial.stays_on_cpu = True
            err = complaint_of(trial)
        if err is None and _answers_row_by_row(trial):
            return None
        complaint = complaint or err
    return complaint or SignatureError("its answer has not a part for each row")


def _answers_row_by_row(trial: ForeignCall) -> bool:
    """Whether one row is answered, and as much as each of several; other forms may be broadcast over the rows."""
    x = example(trial, trial.probe_steps[0])
    try:
        return x.size(0) * trial.call(x[:1]).numel() == trial.call(x).numel()
    except Exception:  # noqa: BLE001 - a stranger's forward may fail in any way
        return False


def _counted(trial: ForeignCall, name: str, forms: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns with how many whole numbers there are, where that is not told.

    Raises:
        SignatureError: the highest of all together do not run, so that one limits the other.
    """
    counted = list(forms)
    for k, column in enumerate(forms):
        if column.dtype == torch.int64 and column.counts is None:
            counts = tuple(_most(trial, forms, k, place) for place in range(column.width))
            counted[k] = replace(column, counts=counts[:1] if len(set(counts)) == 1 else counts)
    if not _run_at_highest(trial, counted):
        raise SignatureError(
            f"{name}.forward fails for the highest numbers of --columns {said(counted)} together, expected a table for "
            "each; say how many there are of each, as kind=1:BT:int64:10"
        )
    return tuple(counted)


def _most(trial: ForeignCall, forms: Sequence[Column], k: int, place: int) -> int:
    """Return how many whole numbers one column of an argument may have, the others at zero."""

    def runs(count: int) -> bool:
        counts = tuple(count if column == place else 1 for column in range(forms[k].width))
        return _run_at_highest(trial, _at_zero([*forms[:k], replace(forms[k], counts=counts), *forms[k + 1 :]]))

    runs_for = 1
    while runs_for < _UNLIMITED and runs(2 * runs_for):
        runs_for *= 2
    if runs_for >= _UNLIMITED:
        return ANY_NUMBER
    fails_for = 2 * runs_for
    while fails_for - runs_for > 1:
        middle = (runs_for + fails_for) // 2
        runs_for, fails_for = (middle, fails_for) if runs(middle) else (runs_for, middle)
    return runs_for


def _run_at_highest(trial: ForeignCall, columns: Sequence[Column]) -> bool:
    """Whether the module runs where each whole number is the highest that there is."""
    assert isinstance(trial.module, CutInputs)
    trial.module.columns = tuple(columns)
    x, start = example(trial, trial.probe_steps[0]), 0
    for column in columns:
        if column.dtype == torch.int64:
            x[..., start : start + column.width] = float(ANY_NUMBER)
        start += column.width
    try:
        trial.call(x)
    except Exception:  # noqa: BLE001 - a stranger's forward may fail in any way
        return False
    return True
