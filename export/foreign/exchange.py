"""Exchange a module's recurrent layers for this house's, so that its time stays free.

Three kinds are exchanged, in a copy: ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` (weights copied, proved equal), layers of
this house (kept), and hand-written layers that loop a cell of their own over time (adopted_loop.py, proved too).
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...model.layer import LSTMLayer
from ...model.stack import RecurrentStack
from ...model.torch_weights import stack_from_torch
from ..errors import UnsupportedLayerError
from ..input_width import input_dim_of
from .adopted_loop import AdoptedCell, adopt_loop, all_close, looped_cell_of
from .call_state import unbundled
from .exchanged_layer import Carry, ExchangedLayer


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One layer exchanged: its path, what it was, and how its equality was proved."""

    path: str
    was: str
    proof: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """What takes a layer's place; see ExchangedLayer."""

    stack: RecurrentStack
    batch_first: bool
    squeezed: bool
    entry: Exchange


def exchange(module: nn.Module) -> tuple[nn.Module, Carry, tuple[Exchange, ...]]:
    """Return a copy with exchanged layers, the Carry that they share, and what was exchanged, in order of registration.

    Raises:
        UnsupportedLayerError: a recurrent layer that lacks a weight, or whose exchange did not prove equal.
    """
    holder = nn.ModuleDict({"network": copy.deepcopy(module).eval()})  # so that a bare layer has a parent as well
    carry = Carry()
    layers: dict[nn.Module, ExchangedLayer] = {}  # a layer that stands at several places stays one layer
    report: list[Exchange] = []
    done: list[str] = []
    for path, found in list(holder.named_modules(remove_duplicate=False)):
        if found is holder or any(path.startswith(outer + ".") for outer in done):
            continue
        if found not in layers:
            made = _exchange_one(found, path.removeprefix("network").removeprefix(".") or "(itself)")
            if made is None:
                continue
            layers[found] = ExchangedLayer(
                made.stack,
                found,
                batch_first=made.batch_first,
                squeezed=made.squeezed,
                carry=carry,
                number=len(layers),
            )
            report.append(made.entry)
        parent, _, name = path.rpartition(".")
        holder.get_submodule(parent).add_module(name, layers[found])
        done.append(path)
    return holder["network"], carry, tuple(report)


def _exchange_one(found: nn.Module, path: str) -> _Made | None:
    kept = Exchange(path=path, was=type(found).__name__, proof="kept")
    if isinstance(found, RecurrentStack):
        return _Made(stack=found, batch_first=True, squeezed=False, entry=replace(kept, was="RecurrentStack"))
    if isinstance(found, LSTMLayer):
        stack = RecurrentStack.of_layer(found, input_dim_of(found))
        return _Made(stack=stack, batch_first=True, squeezed=True, entry=replace(kept, was="LSTMLayer"))
    if isinstance(found, nn.LSTM | nn.GRU | nn.RNN):
        _check_weights(found, path)
        stack = _stack_of_plain(found) if isinstance(found, nn.RNN) else stack_from_torch(found).eval()
        _prove_equal(found, stack, path)
        kind = found.mode.partition("_")[0]  # of RNN_TANH and RNN_RELU the first part
        entry = replace(kept, was=f"nn.{kind}", proof="weights and probes equal")
        return _Made(stack=stack, batch_first=found.batch_first, squeezed=False, entry=entry)
    adopted = adopt_loop(found)
    if adopted is None:
        return None
    layer, batch_first = adopted
    entry = replace(
        kept, was=f"{kept.was} over {type(looped_cell_of(found)).__name__}", proof="probes of four lengths equal"
    )
    stack = RecurrentStack.of_layer(layer, input_dim_of(layer))
    return _Made(stack=stack, batch_first=batch_first, squeezed=True, entry=entry)


def _check_weights(found: nn.LSTM | nn.GRU | nn.RNN, path: str) -> None:
    """Raise where a weight is computed anew for each call, as weight drop does, so that the layer itself lacks it."""
    missing = [name for names in found._all_weights for name in names if name not in found._parameters]  # noqa: SLF001 - torch's list of what belongs to it
    if missing:
        raise UnsupportedLayerError(
            f"{path} is a {type(found).__name__} whose {missing[0]} is no parameter of it, as weight drop leaves it, "
            f"expected all of its weights; let the factory put a plain nn.{type(found).__name__} in its place, with "
            f"{missing[0]} from the trained one"
        )


def _stack_of_plain(found: nn.RNN) -> RecurrentStack:
    """Return the stack over nn.RNNCell that computes what an nn.RNN does, its weights copied."""

    def cell(input_dim: int, hidden_dim: int) -> AdoptedCell:
        made = nn.RNNCell(input_dim, hidden_dim, bias=found.bias, nonlinearity=found.nonlinearity)
        return AdoptedCell(made, (("h", hidden_dim),), input_dim)

    directions = 2 if found.bidirectional else 1
    stack = RecurrentStack(
        cell, found.input_size, found.hidden_size, num_layers=found.num_layers, bidirectional=found.bidirectional
    )
    with torch.no_grad():
        for k, layer in enumerate(stack.layers):
            suffix = f"_l{k // directions}" + ("_reverse" if k % directions else "")
            for name, parameter in layer.cell.cell.named_parameters():  # type: ignore[union-attr] # an AdoptedCell's RNNCell
                parameter.copy_(found.get_parameter(name + suffix))
    return stack.eval()


def _prove_equal(torch_layer: nn.LSTM | nn.GRU | nn.RNN, stack: RecurrentStack, path: str) -> None:
    """Run both in float64 on probes of two lengths and raise where any output differs by more than rounding."""
    ours, theirs = copy.deepcopy(stack).double().eval(), copy.deepcopy(torch_layer).double().eval()
    theirs.batch_first = True
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for steps in (1, 6):
            x = torch.randn(3, steps, torch_layer.input_size, generator=generator, dtype=torch.float64)
            state = [torch.randn(z.shape, generator=generator, dtype=torch.float64) for z in ours.zero_state(x)]
            y, final = ours(x, state)
            if not all_close([y, *final], _given_by(theirs, x, state)):
                raise UnsupportedLayerError(_differs(torch_layer, path))


def _given_by(layer: nn.Module, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    """Return all that a layer gives, nothing where it is not called as torch's own are."""
    try:
        y, final = layer(x, state[0] if len(state) == 1 else tuple(state))
        return [y, *unbundled(final)]
    except Exception:  # noqa: BLE001 - a subclass's forward may fail in any way
        return []


def _differs(layer: nn.Module, path: str) -> str:
    kind: Any = type(layer)
    base: Any = next(one for one in kind.__mro__ if one.__module__.startswith("torch.nn."))
    if kind.forward is not base.forward or "forward" in vars(layer):
        found = "has a forward of its own"
        remedy = f"let it hold an nn.{base.__name__} as self.rnn and call that in the place of super().forward"
    else:
        found, remedy = "has hooks", "take them off, and do in the module around it what they do"
    return (
        f"{path} is a {kind.__name__} that {found} and does not compute what its weights say, expected torch's own "
        f"forward without hooks; {remedy}"
    )
