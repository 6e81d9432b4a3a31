"""The proof of a rolled module: both run, and differ by no more than rounding.

Both get the same random sequences, for numbers of steps that neither capture had, with other numbers of rows; in
float64, or in float32 where the original's code is bound to that.

Rules of this file: nothing is believed that a run can show; a stranger's code runs here, on copies.
"""

import copy
from collections.abc import Iterator
from typing import Final

import torch
from torch import nn

from .loop import NoLoopError
from .sequence_call import ROWS, AnswerAlone, Sequences

_PROVED_STEPS: Final = (1, 2, 4, 11, 12, 40)


def prove(call: AnswerAlone, made: nn.Module, sequences: Sequences) -> None:
    """Run both, in float64 where the original can, and raise where they differ by more than rounding."""
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        theirs, ours = copy.deepcopy(call).to(dtype), copy.deepcopy(made).to(dtype)
        proofs = list(_differences(theirs, ours, sequences, dtype))
        if not proofs:  # its code is bound to the other precision
            continue
        if len(proofs) < len(_PROVED_STEPS) - 1 or not all(difference <= tolerance for difference in proofs):
            raise NoLoopError("its loop over time could not be proved equal to the one that cellgate made of it")
        return
    raise NoLoopError("it runs for no number of steps but the one that it was looked at with")


def _differences(theirs: nn.Module, ours: nn.Module, sequences: Sequences, dtype: torch.dtype) -> Iterator[float]:
    """Yield the largest difference for each number of steps that the original takes."""
    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # what the original makes for itself, such as zeros, has to follow
    try:
        for steps in _PROVED_STEPS:
            rows = ROWS if steps % 2 else ROWS + 2  # the batch is free too
            x = sequences.example(steps, seed=steps, rows=rows)
            try:
                with torch.no_grad():
                    expected = theirs(x)
            except Exception:  # noqa: BLE001, S112 - one step may be too few for it, or float64 too much
                continue
            try:
                with torch.no_grad():
                    found = ours(x)
            except RuntimeError:  # what was made does not even run
                yield float("inf")
                continue
            alike = found.shape == expected.shape and torch.isfinite(expected).all()
            yield float((found - expected).abs().max() / (1.0 + expected.abs().max())) if alike else float("inf")
    finally:
        torch.set_default_dtype(kept)
