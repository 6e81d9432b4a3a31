"""One trial of an input: what a foreign module is given, and why it does not run so.

Rules of this file: it tries what the network is set to, and sets nothing; what to set next is `input_probe`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from ..errors import AnswerError, ExportError
from .call_layout import InputLayout
from .call_mask import MaskForm, mask_forms

if TYPE_CHECKING:
    from .call import ForeignCall

PROBE_STEPS: Final = (5, 7)
PROBE_ROWS: Final = 3
PROBES: Final = (PROBE_STEPS, (61, 127), (1021, 2039))  # more where a front needs more than the usual
Input = tuple[InputLayout, bool, int]
"""The layout, whether tokens are taken, and the width or the number of tokens."""


def example(network: ForeignCall, steps: int, rows: int | None = None, seed: int = 0) -> Tensor:
    """Return a random sequence [B, T, I], or tokens [B, T]; one row where the module takes one at a time."""
    generator = torch.Generator().manual_seed(seed)
    rows = rows or (1 if network.input_layout.one_at_a_time else PROBE_ROWS)
    if network.takes_tokens:
        tokens = torch.randint(0, network.input_dim, (rows, steps), generator=generator)
        tokens[0, 0] = network.input_dim - 1  # another table of the module may be smaller
        return tokens
    return torch.randn(rows, steps, network.input_dim, generator=generator, dtype=network.dtype())


def needed_masks(network: ForeignCall) -> list[MaskForm | None]:
    """Return the masks to try where forward needs one; None where it does not."""
    name = network.roles.mask if network.roles.needs_mask else None
    return [None] if name is None else [*mask_forms(name, network.input_layout)]


def complaint_of(network: ForeignCall, probed: tuple[int, ...] = PROBE_STEPS) -> Exception | None:
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
