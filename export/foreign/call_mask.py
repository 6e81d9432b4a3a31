"""The mask that a foreign module takes in the place of lengths, or beside them: made from lengths, real steps first.

Modules differ in what a mask says and how: True or 1 for a real step or for padding; bool, whole numbers or the dtype
of the weights; [B, T], [T, B], or with an axis more for broadcasting. Which form a module takes is found out on runs
(mask_probe.py); its name only says what is tried first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from .call_layout import InputLayout

_STEPS_BESIDE_STEPS: Final = "TT"
_KINDS: Final = ("bool", "int64", "float32")
_SAYS_PADDING: Final = re.compile(r".*pad.*")
_SAYS_REAL: Final = re.compile(r"attention_masks?|input_masks?|.*valid.*")


@dataclass(frozen=True, slots=True)
class MaskForm:
    """What a module takes for a mask.

    Attributes:
        axes: in its order: B rows, T steps, 1 an axis that holds one; "T" for one sequence. "TT" is what each step sees
            of the others, and with I there is a mark for each feature, neither of which lengths tell: such a mask hides
            nothing, and is made only to find out who takes one.
        kind: "bool", "int64", or "float32", which follows the weights' dtype.
        marks_real: whether True or 1 is a real step; else it is padding.
    """

    axes: str
    kind: str
    marks_real: bool

    @property
    def turned(self) -> "MaskForm":
        """The same with True and False exchanged."""
        return replace(self, marks_real=not self.marks_real)

    @property
    def words(self) -> str:
        """What it is, for people."""
        shape = ", ".join(self.axes)
        return f"{self.kind} [{shape}], {'True' if self.kind == 'bool' else '1'} for {self._marked}"

    @property
    def _marked(self) -> str:
        return "a real step" if self.marks_real else "padding"

    def of(self, x: Tensor, lengths: Tensor | None, floating: torch.dtype) -> Tensor:
        """Return the mask of x [B, T, ...].

        Args:
            x: the sequence as this house lays it out.
            lengths: integer [B]; None for all T.
            floating: the dtype of the weights.
        """
        if lengths is None or self.axes == _STEPS_BESIDE_STEPS:
            shape = (x.size(1), x.size(1)) if self.axes == _STEPS_BESIDE_STEPS else x.shape[:2]
            real = torch.ones(shape, dtype=torch.bool, device=x.device)
        else:
            real = torch.arange(x.size(1), device=x.device).unsqueeze(0) < lengths.unsqueeze(1)
        marked = real if self.marks_real else ~real
        if self.kind != "bool":
            marked = marked.to(torch.int64 if self.kind == "int64" else floating)
        if self.axes in {"T", _STEPS_BESIDE_STEPS}:
            return marked.squeeze(0) if self.axes == "T" else marked
        marked = marked.transpose(0, 1) if self.axes.startswith("T") else marked
        further = next((axis for axis in "1I" if axis in self.axes), None)
        if further is None:
            return marked
        marked, sizes = marked.unsqueeze(self.axes.index(further)), [-1, -1, -1]
        sizes[self.axes.index(further)] = 1 if further == "1" else x.size(2)
        return marked.expand(sizes)


def mask_forms(name: str, layout: InputLayout) -> Iterator[MaskForm]:
    """Yield the forms to try for an argument of this name in a module that takes its sequence so, in that order."""
    axes: tuple[str, ...] = ("BT", "B1T", "BT1")
    if layout.time_first:
        axes = ("TB", "BT", "B1T", "TB1")
    if layout.one_at_a_time:  # beside [1, T, I] a mark for each step is [1, T]; [T] would be one for each row
        axes = ("BT",) if layout.axes.startswith("1") else ("T", "BT")
    first = polarity_said(name) is not False
    for places in axes:
        for kind in _KINDS:
            yield MaskForm(places, kind, first)
            yield MaskForm(places, kind, not first)


def further_marks(form: MaskForm) -> Iterator[MaskForm]:
    """Yield the masks that say more than which steps are real, and that what takes this form may take as well.

    They broadcast as it does: a mark for each pair of steps, and one for each feature.
    """
    if "1" in form.axes:
        yield replace(form, axes=_STEPS_BESIDE_STEPS)
        yield replace(form, axes=form.axes.replace("1", "I"))


def says_too_much(module: str, sequence: str, argument: str, form: MaskForm) -> str:
    """Return the sentence that refuses a mask of such a form, which no lengths tell; both names are of arguments."""
    if form.axes == _STEPS_BESIDE_STEPS:
        remedy = "make that mask in forward, of x.size(1), in the place of the argument"
        axes = "such as mask[:, None, None]"
    else:
        remedy = f"say --columns {sequence}=WIDTH,{argument}=WIDTH, which cuts both out of one x (docs/modules.md)"
        axes = "mask.unsqueeze(-1)"
    return (
        f"{module}.forward takes a mask [{', '.join(form.axes)}] for {argument}, expected one mark for each step, "
        f"[B, T], which lengths can tell; {remedy}, or, if it only marks padding, take it as [B, T] and give it its "
        f"further axis in forward, {axes}"
    )


def polarity_said(name: str) -> bool | None:
    """Return whether True marks real steps, as far as a name says it; ``mask`` alone does not."""
    if _SAYS_PADDING.fullmatch(name.lower()):
        return False
    return True if _SAYS_REAL.fullmatch(name.lower()) else None
