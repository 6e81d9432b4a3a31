"""A layer of this house in the place of a foreign module's own, and what passes between them by the module's back.

A module's ``forward`` seldom hands lengths and states on. So the exchanged layers share a Carry: before a run it holds
the lengths and the state of each layer, after it the state that each layer ended with. A layer that is given a state by
its module uses that one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..errors import UnsupportedLayerError
from ..graph.ragged import Ragged
from .call_state import unbundled

_SEQUENCE_RANK: Final = 3
_ALONE_RANK: Final = 2  # [T, I]: torch's layers take one sequence without an axis for the batch


@dataclass(slots=True)
class Carry:
    """What passes by the module's own forward.

    Attributes:
        lengths: integer [B], or None for all T.
        initial: for layers by number their state tensors [L*D, B, width]; zeros for those that are not in it.
        overrules: whether ``initial`` comes before a state that the module gives (zeros that it made itself).
        mapped: whether the module is mapped over the rows (network.py), where a gather freezes their number.
        deaf: layers that get no lengths from here, for they do not see the steps of the sequence (steps_seen.py).
        fill: what an exchanged layer's output holds after a row's length: "zero", or the "last" real step again.
        calls: how often each layer ran; this and what follows is filled by the run.
        final: the state that each layer ended with.
        given: the state that its module gave to each layer.
        used: the state with which each layer began.
        shapes: for each layer the (B, T) that it saw last.
        steps: for each layer every T that it saw.
    """

    lengths: Tensor | None = None
    initial: dict[int, list[Tensor]] = field(default_factory=dict)
    overrules: bool = False
    mapped: bool = False
    deaf: set[int] = field(default_factory=set)
    fill: str = "zero"
    calls: dict[int, int] = field(default_factory=dict)
    final: dict[int, list[Tensor]] = field(default_factory=dict)
    given: dict[int, list[Tensor]] = field(default_factory=dict)
    used: dict[int, list[Tensor] | None] = field(default_factory=dict)
    shapes: dict[int, tuple[int, int]] = field(default_factory=dict)
    steps: dict[int, list[int]] = field(default_factory=dict)

    def begin(self, lengths: Tensor | None, initial: dict[int, list[Tensor]]) -> None:
        """Forget the run before and load the next."""
        self.lengths, self.initial = lengths, initial
        for filled in (self.calls, self.final, self.given, self.used, self.shapes, self.steps):
            filled.clear()


class ExchangedLayer(nn.Module):
    """A stack of this house behind the call of the layer whose place it takes: (input, state) -> (output, state).

    Args:
        stack: the layer of this house.
        was: the layer whose place it takes; its plain attributes (hidden_size, ...) and weights can still be read.
        batch_first: whether the module hands over [B, T, I] or [T, B, I].
        squeezed: whether state tensors are [B, width] (a hand-written layer) or [L*D, B, width] (torch's).
        carry: shared by all exchanged layers of a network.
        number: of this layer in the carry.
    """

    def __init__(
        self, stack: nn.Module, was: nn.Module, *, batch_first: bool, squeezed: bool, carry: Carry, number: int
    ) -> None:
        super().__init__()
        self.stack = stack
        self.batch_first = batch_first
        self.squeezed = squeezed
        self.carry = carry
        self.number = number
        # Code asks a weight for its device and dtype, or for zeros like it.
        weights = {name: weight.detach() for name, weight in was.named_parameters(recurse=False)}
        self.plain = _plain_attributes(was) | weights

    def __getattr__(self, name: str) -> Any:
        plain = self.__dict__.get("plain", {})
        return plain[name] if name in plain else super().__getattr__(name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move and convert the weights that can be read like those that are used."""
        self.plain = {name: fn(value) if isinstance(value, Tensor) else value for name, value in self.plain.items()}
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def flatten_parameters(self) -> None:
        """Do nothing: modules call it on torch's layers before they run."""

    def forward(self, input: Any, hx: Any = None, lengths: Tensor | None = None) -> tuple[Any, Any]:  # noqa: A002 - torch's names
        """Run the stack with the state given, else with the Carry's."""
        if isinstance(input, Ragged):
            data = input.padded if self.batch_first else input.padded.transpose(0, 1)
            output, state = self(data, hx, input.lengths)
            return Ragged.of(output if self.batch_first else output.transpose(0, 1), input.lengths), state
        if isinstance(input, Tensor) and input.dim() == _ALONE_RANK:
            return self._run_alone(input, hx)
        if not isinstance(input, Tensor) or input.dim() != _SEQUENCE_RANK:
            found = f"shape {list(input.shape)}" if isinstance(input, Tensor) else type(input).__name__
            raise UnsupportedLayerError(
                f"a recurrent layer was given {found}, expected a batch of sequences [B, T, I], or one"
            )
        output, final = self._run(input if self.batch_first else input.transpose(0, 1), hx, lengths)
        state = [tensor.squeeze(0) for tensor in final] if self.squeezed else final
        # Time first, torch's output is contiguous, and people call view() on it.
        output = output if self.batch_first else output.transpose(0, 1).contiguous()
        return output, state[0] if len(state) == 1 else tuple(state)

    def _run_alone(self, input: Tensor, hx: Any) -> tuple[Any, Any]:  # noqa: A002
        """Run on one sequence [T, I] with state tensors [L*D, width], and return [T, O] and such states."""
        axis = 0 if self.squeezed else 1
        given = hx if hx is None or isinstance(hx, Tensor) else tuple(tensor.unsqueeze(axis) for tensor in hx)
        given = given.unsqueeze(axis) if isinstance(given, Tensor) else given
        batch = 0 if self.batch_first else 1
        output, state = self(input.unsqueeze(batch), given)
        alone = state.squeeze(axis) if isinstance(state, Tensor) else tuple(tensor.squeeze(axis) for tensor in state)
        return output.squeeze(batch), alone

    def _run(self, signal: Tensor, hx: Any, lengths: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        carry, number = self.carry, self.number
        if lengths is None and number not in carry.deaf:
            lengths = carry.lengths
        initial = self._initial(hx, signal.dtype)
        output, final = self.stack(signal, initial, lengths)
        carry.calls[number] = carry.calls.get(number, 0) + 1
        carry.shapes[number] = (signal.shape[0], signal.shape[1])
        carry.steps.setdefault(number, []).append(signal.shape[1])
        carry.used[number], carry.final[number] = initial, final
        if carry.fill == "last" and lengths is not None:
            output = (_last_real_step_by_mask if carry.mapped else _repeat_last_real_step)(output, lengths)
        return output, final

    def _initial(self, hx: Any, dtype: torch.dtype) -> list[Tensor] | None:
        carried = self.carry.initial.get(self.number)
        if hx is None:
            return carried
        # Zeros that a module makes itself are float32 also where it runs in float64 to be held against.
        tensors = [tensor if tensor.dtype == dtype else tensor.to(dtype) for tensor in unbundled(hx)]
        given = [tensor.unsqueeze(0) for tensor in tensors] if self.squeezed else tensors
        self.carry.given[self.number] = given
        return carried if self.carry.overrules and carried is not None else given


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Return a module's numbers and texts by name, those of its children one level below each."""
    plain: dict[str, Any] = {
        name: value for name, value in vars(module).items() if isinstance(value, int | float | str) and name[0] != "_"
    }
    return plain | {name: SimpleNamespace(**_plain_attributes(child)) for name, child in module.named_children()}


def _repeat_last_real_step(output: Tensor, lengths: Tensor) -> Tensor:
    """Return output [B, T, W] with the value at lengths[b] - 1 at every later step, for modules that read [:, -1]."""
    steps = torch.arange(output.size(1), device=output.device).unsqueeze(0)
    index = torch.minimum(steps, lengths.to(torch.int64).unsqueeze(1) - 1)
    return output.gather(1, index.unsqueeze(2).expand(-1, -1, output.size(2)))


def _last_real_step_by_mask(output: Tensor, lengths: Tensor) -> Tensor:
    """As _repeat_last_real_step, to the bit: one step and zeros are summed."""
    steps, count = torch.arange(output.size(1), device=output.device).unsqueeze(0), lengths.unsqueeze(1)
    zeros = torch.zeros_like(output)
    last = torch.where((steps == count - 1).unsqueeze(2), output, zeros).sum(1, keepdim=True)
    return torch.where((steps < count).unsqueeze(2), output, last)
