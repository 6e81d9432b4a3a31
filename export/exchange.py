"""Exchange a module's recurrent layers for this house's, so that its time stays free.

Three kinds are exchanged, in a copy: ``nn.LSTM`` and ``nn.GRU`` (weights copied, proved equal), layers of this house
(kept), and hand-written layers that loop a cell of their own over time, such as the tutorial's. The last are proved too:
the layer and the loop of this house over the same cell must agree on probes of several lengths, else the layer is left
alone.

A module's ``forward`` seldom hands lengths and states on. So the exchanged layers share a Carry: before a run it holds
the lengths and the state of each layer, after it the state that each layer ended with. A layer that is given a state by
its module uses that one.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..model.cell import StateSpec
from ..model.layer import LSTMLayer
from ..model.stack import RecurrentStack
from ..model.torch_weights import stack_from_torch
from .errors import UnsupportedLayerError
from .input_width import input_dim_of
from .ragged import Ragged


@dataclass(slots=True)
class Carry:
    """What passes by the module's own forward.

    Attributes:
        lengths: integer [B], or None for all T.
        initial: for each exchanged layer its state tensors [L*D, B, width], or None for zeros.
        final: filled by the run.
        given: for each layer the state that its module gave it; filled by the run.
        shapes: for each layer the (B, T) that it saw; filled by the run.
        overrules: whether ``initial`` comes before a state that the module gives (zeros that it made itself).
        fill: what an exchanged layer's output holds after a row's length: "zero", or the "last" real step again.
    """

    lengths: Tensor | None = None
    initial: list[list[Tensor]] | None = None
    final: dict[int, list[Tensor]] = field(default_factory=dict)
    given: dict[int, list[Tensor]] = field(default_factory=dict)
    shapes: dict[int, tuple[int, int]] = field(default_factory=dict)
    overrules: bool = False
    fill: str = "zero"


class ExchangedLayer(nn.Module):
    """A stack of this house behind the call of the layer whose place it takes: (input, state) -> (output, state).

    Args:
        stack: the layer of this house.
        batch_first: whether the module hands over [B, T, I] or [T, B, I].
        squeezed: whether state tensors are [B, width] (a hand-written layer) or [L*D, B, width] (torch's).
    """

    def __init__(self, stack: nn.Module, *, batch_first: bool, squeezed: bool, carry: Carry, number: int) -> None:
        super().__init__()
        self.stack = stack
        self.batch_first = batch_first
        self.squeezed = squeezed
        self.carry = carry
        self.number = number

    def forward(self, input: Any, hx: Any = None, lengths: Tensor | None = None) -> tuple[Any, Any]:  # noqa: A002
        """Run the stack with the state given, else with the Carry's."""
        if isinstance(input, Ragged):
            data = input.data if self.batch_first else input.data.transpose(0, 1)
            output, state = self(data, hx, input.lengths)
            return Ragged(output if self.batch_first else output.transpose(0, 1), input.lengths), state
        if not isinstance(input, Tensor) or input.dim() != 3:  # noqa: PLR2004
            found = f"shape {tuple(input.shape)}" if isinstance(input, Tensor) else type(input).__name__
            raise UnsupportedLayerError(f"a recurrent layer was given {found}, expected a batch of sequences [B, T, I]")
        signal = input if self.batch_first else input.transpose(0, 1)
        self.carry.shapes[self.number] = (signal.shape[0], signal.shape[1])
        lengths = self.carry.lengths if lengths is None else lengths
        output, final = self.stack(signal, self._initial(hx), lengths)
        self.carry.final[self.number] = final
        if self.carry.fill == "last" and lengths is not None:
            output = _repeat_last_real_step(output, lengths)
        state = [tensor.squeeze(0) for tensor in final] if self.squeezed else final
        return output if self.batch_first else output.transpose(0, 1), state[0] if len(state) == 1 else tuple(state)

    def _initial(self, hx: Any) -> list[Tensor] | None:
        carried = None if self.carry.initial is None else self.carry.initial[self.number]
        if hx is None:
            return carried
        tensors = [hx] if isinstance(hx, Tensor) else list(hx)
        given = [tensor.unsqueeze(0) for tensor in tensors] if self.squeezed else tensors
        self.carry.given[self.number] = given
        return carried if self.carry.overrules and carried is not None else given


def _repeat_last_real_step(output: Tensor, lengths: Tensor) -> Tensor:
    """Return output [B, T, W] with the value at lengths[b] - 1 at every later step, for modules that read [:, -1]."""
    steps = torch.arange(output.size(1), device=output.device).unsqueeze(0)
    index = torch.minimum(steps, lengths.to(torch.int64).unsqueeze(1) - 1)
    return output.gather(1, index.unsqueeze(2).expand(-1, -1, output.size(2)))


class AdoptedCell(nn.Module):
    """A cell written elsewhere, with the state that it was found to have.

    It may return (output, state) as a cell of this house, or its new state alone, as nn.LSTMCell and nn.GRUCell do.
    """

    def __init__(self, cell: nn.Module, state_spec: StateSpec, input_dim: int) -> None:
        super().__init__()
        self.cell = cell
        self.state_spec = state_spec
        self.input_dim = input_dim

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return (output, state), whichever way the cell returns them."""
        result = self.cell(x, state)
        if isinstance(result, Tensor):
            return result, result
        first, second = result
        if isinstance(second, Tensor) and len(self.state_spec) == 2:  # noqa: PLR2004 - (hidden, cell)
            return first, (first, second)
        return first, second


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One layer exchanged: its path, what it was, and how its equality was proved."""

    path: str
    was: str
    proof: str


def exchange(module: nn.Module) -> tuple[nn.Module, Carry, tuple[Exchange, ...]]:
    """Return a copy with exchanged layers, the Carry that they share, and what was exchanged, in order of registration.

    Raises:
        UnsupportedLayerError: nn.RNN, or a recurrent layer whose exchange did not prove equal.
    """
    exchanged = copy.deepcopy(module).eval()
    carry = Carry()
    report: list[Exchange] = []
    holder = nn.ModuleDict({"network": exchanged})  # so that a bare layer has a parent as well
    for path, found in list(holder.named_modules()):
        if any(path.startswith(done.path + ".") for done in report):
            continue
        made = _exchange_one(found, path)
        if made is None:
            continue
        stack, batch_first, squeezed, entry = made
        parent, _, name = path.rpartition(".")
        layer = ExchangedLayer(stack, batch_first=batch_first, squeezed=squeezed, carry=carry, number=len(report))
        setattr(holder.get_submodule(parent), name, layer) if parent != "" else holder.update({name: layer})
        report.append(entry)
    named = tuple(
        Exchange(path=e.path.removeprefix("network").lstrip(".") or "(itself)", was=e.was, proof=e.proof)
        for e in report
    )
    return holder["network"], carry, named


def _exchange_one(found: nn.Module, path: str) -> tuple[nn.Module, bool, bool, Exchange] | None:
    if isinstance(found, RecurrentStack):
        return found, True, False, Exchange(path=path, was="RecurrentStack", proof="kept")
    if isinstance(found, LSTMLayer):
        return (
            RecurrentStack.of_layer(found, input_dim_of(found)),
            True,
            True,
            Exchange(path=path, was="LSTMLayer", proof="kept"),
        )
    if isinstance(found, (nn.LSTM, nn.GRU)):
        stack = stack_from_torch(found).eval()
        _prove_equal(found, stack, path)
        was = f"nn.{type(found).__name__}"
        return stack, found.batch_first, False, Exchange(path=path, was=was, proof="weights and probes equal")
    if isinstance(found, nn.RNNBase):
        raise UnsupportedLayerError(
            f"{path.removeprefix('network.')} is a {type(found).__name__}, expected nn.LSTM or nn.GRU"
        )
    adopted = _adopt_loop(found)
    if adopted is None:
        return None
    layer, batch_first = adopted
    was = f"{type(found).__name__} over {type(_cell_of(found)).__name__}"
    return (
        RecurrentStack.of_layer(layer, input_dim_of(layer)),
        batch_first,
        True,
        Exchange(path=path, was=was, proof="probes of four lengths equal"),
    )


def _prove_equal(torch_layer: nn.LSTM | nn.GRU, stack: RecurrentStack, path: str) -> None:
    """Run both in float64 on probes of two lengths and raise where any output differs by more than rounding."""
    ours, theirs = copy.deepcopy(stack).double().eval(), copy.deepcopy(torch_layer).double().eval()
    theirs.batch_first = True
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for steps in (1, 6):
            x = torch.randn(3, steps, torch_layer.input_size, generator=generator, dtype=torch.float64)
            state = [
                torch.randn(tensor.shape, generator=generator, dtype=torch.float64) for tensor in ours.zero_state(x)
            ]
            y, final = ours(x, state)
            y_torch, final_torch = theirs(x, state[0] if len(state) == 1 else tuple(state))
            pairs = zip([y, *final], [y_torch, *([final_torch] if len(final) == 1 else final_torch)], strict=True)
            if not all(torch.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in pairs):
                raise UnsupportedLayerError(
                    f"{path} was exchanged for a layer of this house, expected equal outputs, found different ones; "
                    "please report the layer's arguments"
                )


def _adopt_loop(found: nn.Module) -> tuple[LSTMLayer, bool] | None:
    """Return this house's layer over the cell of ``found`` and whether it is batch first, if it is a loop over it."""
    cell = _cell_of(found)
    if cell is None or isinstance(found, AdoptedCell):
        return None
    for spec, input_dim in _states_of_foreign_cell(cell):
        for reverse in (False, True):
            for batch_first in (True, False):
                layer = LSTMLayer(AdoptedCell, cell, spec, input_dim, reverse=reverse)
                if _loops_agree(found, layer, input_dim, batch_first=batch_first):
                    return layer.eval(), batch_first
    return None


def _cell_of(found: nn.Module) -> nn.Module | None:
    """Return what ``found`` may loop over: its child called cell, or its only child."""
    children = dict(found.named_children())
    named = children.get("cell")
    return named if named is not None else next(iter(children.values())) if len(children) == 1 else None


def _states_of_foreign_cell(cell: nn.Module) -> list[tuple[StateSpec, int]]:
    """Return every (state_spec, I) with which the cell runs, by its declaration or by trying widths of its weights."""
    matrices = [tuple(p.shape) for p in cell.parameters() if p.dim() == 2]  # noqa: PLR2004
    widths = sorted({columns for _, columns in matrices})
    declared = getattr(cell, "state_spec", None)
    specs: list[StateSpec] = [tuple(declared)] if declared else []
    if not specs:
        blocks = {rows // k for rows, _ in matrices for k in (1, 3, 4) if rows % k == 0}
        for H in sorted({*widths, *blocks}):
            specs += [(("h", H), ("c", H)), (("h", H),)]
    joint = {columns - spec[0][1] for columns in widths for spec in specs if columns > spec[0][1]}
    return [
        (spec, input_dim)
        for spec in specs
        for input_dim in sorted({*widths, *joint})
        if _keeps_protocol(cell, spec, input_dim)
    ]


def _keeps_protocol(cell: nn.Module, spec: StateSpec, input_dim: int) -> bool:
    parameter = next(cell.parameters())
    state = [torch.randn(3, width, dtype=parameter.dtype) for _, width in spec]
    try:
        with torch.no_grad():
            x = torch.randn(3, input_dim, dtype=parameter.dtype)
            output, new = AdoptedCell(cell, spec, input_dim)(x, state[0] if len(state) == 1 else tuple(state))
    except Exception:  # noqa: BLE001 - a stranger's code may refuse a wrong guess in any way it likes
        return False
    tensors = [new] if isinstance(new, Tensor) else list(new)
    return isinstance(output, Tensor) and [t.shape for t in tensors] == [t.shape for t in state]


def _loops_agree(found: nn.Module, layer: LSTMLayer, input_dim: int, *, batch_first: bool) -> bool:
    """Compare in float64 on four lengths, with the state left out and given."""
    theirs, ours = copy.deepcopy(found).double().eval(), copy.deepcopy(layer).double().eval()
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for steps in (1, 2, 5, 8):
                x = torch.randn(3, steps, input_dim, generator=generator, dtype=torch.float64)
                state = [
                    torch.randn(3, width, generator=generator, dtype=torch.float64) for width in layer.state_widths
                ]
                given: Any = state[0] if len(state) == 1 else tuple(state)
                y, final = ours(x, given)
                y_theirs, final_theirs = theirs(x if batch_first else x.transpose(0, 1), given)
                y_theirs = y_theirs if batch_first else y_theirs.transpose(0, 1)
                mine = [y, *([final] if isinstance(final, Tensor) else final)]
                other = [y_theirs, *([final_theirs] if isinstance(final_theirs, Tensor) else final_theirs)]
                if not all(
                    a.shape == b.shape and torch.allclose(a, b, rtol=1e-10, atol=1e-10)
                    for a, b in zip(mine, other, strict=True)
                ):
                    return False
    except Exception:  # noqa: BLE001 - not a loop over this cell, whatever else it is
        return False
    return True
