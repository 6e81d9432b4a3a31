"""Hand-written layers that loop a cell over time, such as the tutorial's: adopted where equal to this house's loop.

The layer and the loop of this house over the same cell must agree on probes of several lengths, forwards or backwards,
batch first or time first. A layer that agrees with none is left alone, whatever else it is.

Rules of this file: a stranger's code runs here, on copies and inside a net; no global random number is drawn.
"""

import copy
from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import torch
from torch import Tensor, nn

from ...model.cell import StateSpec
from ...model.layer import LSTMLayer
from .call_modes import SinglesDoubled
from .call_state import unbundled

_PROBED_STEPS: Final = (1, 2, 5, 8)
_ROWS: Final = 3
_MATRIX_RANK: Final = 2
_PAIR: Final = 2


class AdoptedCell(nn.Module):
    """A cell written elsewhere, with the state that it was found to have.

    It may return (output, state) as a cell of this house, or its new state alone, as nn.LSTMCell and nn.GRUCell do.
    """

    def __init__(self, cell: nn.Module, state_spec: StateSpec, input_dim: int) -> None:
        super().__init__()
        self.cell = cell
        self.known_as = "nn." * type(cell).__module__.startswith("torch.nn.") + type(cell).__name__
        self.state_spec = state_spec
        self.input_dim = input_dim

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return (output, state), whichever way the cell returns them."""
        result = self.cell(x, state)
        if isinstance(result, Tensor):
            return result, result
        first, second = result
        if isinstance(second, Tensor) and len(self.state_spec) == _PAIR:  # (hidden, cell)
            return first, (first, second)
        return first, second


def adopt_loop(found: nn.Module) -> tuple[LSTMLayer, bool] | None:
    """Return this house's layer over the cell of ``found`` and whether it is batch first, or None: no such loop."""
    cell = looped_cell_of(found)
    if cell is None:
        return None
    for spec, input_dim in _states_of(cell):
        for reverse, batch_first in product((False, True), (True, False)):
            layer = LSTMLayer(AdoptedCell, cell, spec, input_dim, reverse=reverse)
            if _loops_agree(found, layer, input_dim, batch_first=batch_first):
                return layer.eval(), batch_first
    return None


def looped_cell_of(found: nn.Module) -> nn.Module | None:
    """Return what ``found`` may loop over: its child called cell, or its only child."""
    children = dict(found.named_children())
    cell = children.get("cell") or (next(iter(children.values())) if len(children) == 1 else None)
    is_cell = cell is not None and not isinstance(cell, nn.RNNBase) and any(True for _ in cell.parameters())
    return cell if is_cell else None


def _states_of(cell: nn.Module) -> Iterator[tuple[StateSpec, int]]:
    """Yield every (state_spec, I) with which the cell runs, by its declaration or by trying widths of its weights."""
    matrices = [tuple(p.shape) for p in cell.parameters() if p.dim() == _MATRIX_RANK]
    widths = {columns for _, columns in matrices}
    declared = getattr(cell, "state_spec", None)
    specs: list[StateSpec] = [tuple(declared)] if declared else []
    if not specs:
        blocks = {rows // k for rows, _ in matrices for k in (1, 3, 4) if rows % k == 0}
        for H in sorted(widths | blocks):
            specs += [(("h", H), ("c", H)), (("h", H),)]
    for spec in specs:
        joint = {columns - spec[0][1] for columns in widths if columns > spec[0][1]}
        for input_dim in sorted(widths | joint):
            if _keeps_protocol(cell, spec, input_dim):
                yield spec, input_dim


def _keeps_protocol(cell: nn.Module, spec: StateSpec, input_dim: int) -> bool:
    copied, state = copy.deepcopy(cell), []
    try:
        copied = copied.double()
        x = torch.ones(_ROWS, input_dim, dtype=torch.float64)
        state = [torch.ones(_ROWS, width, dtype=torch.float64) for _, width in spec]
        with torch.no_grad():
            output, new = AdoptedCell(copied, spec, input_dim)(x, _bundled(state))
        tensors = unbundled(new)
        return isinstance(output, Tensor) and [t.shape for t in tensors] == [t.shape for t in state]
    except Exception:  # noqa: BLE001 - a stranger's code may refuse a wrong guess in any way it likes
        return False


def _loops_agree(found: nn.Module, layer: LSTMLayer, input_dim: int, *, batch_first: bool) -> bool:
    """Compare in float64 on several lengths, from random states, and from none where that may be left out."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    try:
        theirs, ours = copy.deepcopy(found).double().eval(), copy.deepcopy(layer).double().eval()
        with torch.no_grad():
            for steps in _PROBED_STEPS:
                x, state = draw(_ROWS, steps, input_dim), [draw(_ROWS, width) for width in layer.state_widths]
                y, final = ours(x, _bundled(state))
                y_theirs, final_theirs = theirs(x if batch_first else x.transpose(0, 1), _bundled(state))
                y_theirs = y_theirs if batch_first else y_theirs.transpose(0, 1)
                if not all_close([y, *unbundled(final)], [y_theirs, *unbundled(final_theirs)]):
                    return False
            return not _starts_elsewhere(theirs, ours, x if batch_first else x.transpose(0, 1), x)
    except Exception:  # noqa: BLE001 - not a loop over this cell, whatever else it is
        return False


def _starts_elsewhere(theirs: nn.Module, ours: nn.Module, laid: Tensor, x: Tensor) -> bool:
    """Whether a layer that is called without a state starts from another than zeros, such as one that it learned."""
    try:
        with SinglesDoubled():  # the zeros that it makes for itself have to follow
            _, final_theirs = theirs(laid)
    except Exception:  # noqa: BLE001 - it wants a state; the proof of the whole module tells the rest
        return False
    return not all_close(unbundled(ours(x)[1]), unbundled(final_theirs))


def all_close(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    """Whether float64 tensors are equal in number, shape and, but for rounding, value."""
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in zip(ours, theirs, strict=True)
    )


def _bundled(state: list[Tensor]) -> Any:
    return state[0] if len(state) == 1 else tuple(state) if len(state) == _PAIR else state
