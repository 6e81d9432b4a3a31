"""A network that somebody else wrote, behind the call of this house: (x, lengths, state) -> (y, state).

What the module's ``forward`` does not take, its exchanged layers get through their Carry. Nothing is assumed that a run
can tell: the width of the input, the layout of the output, whether a state given arrives at the layer (else none is
carried), and whether lengths are honoured: a padded batch is compared with its rows alone, and a module that passes
neither as it is nor with the last real step repeated in the padding gets no lengths at all.

Rules of this file: the module's parameters and buffers are never changed; every guess is checked on a run.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..model.network import StateTensor
from ..model.stack import RecurrentStack
from .call_roles import Roles, find_roles
from .errors import ExportError, SignatureError, UnsupportedLayerError
from .exchange import Exchange, exchange
from .exchanged_layer import ExchangedLayer
from .input_width import input_candidates, loop_candidates
from .ragged import packing_understood
from .rolled import roll

__all__ = ["ForeignNetwork", "Roles", "find_roles"]

_PROBE_STEPS: Final = (5, 7)
_PROBE_LENGTHS: Final = (7, 4, 1)  # one for each of the probe's rows
_ROWS: Final = len(_PROBE_LENGTHS)


class ForeignNetwork(nn.Module):
    """The module with exchanged layers, called as this house's networks are.

    Attributes:
        exchanges: what was exchanged.
        takes_tokens: whether the sequence is int64 [B, T].
        input_dim: I, or the number of tokens.
        honours_lengths: proved; where false, rows must be equally long.
        carries_state: whether a state can be given and is returned.
        per_step: whether y is [B, T, O].
        output_dim: O.
    """

    def __init__(self, module: nn.Module, told: Mapping[str, str] | None = None, input_dim: int | None = None) -> None:
        super().__init__()
        self._own_roles = self.roles = find_roles(module, told)
        self.module, self.carry, self.exchanges = exchange(module)
        tried = [(False, input_dim)] if input_dim is not None else input_candidates(self.module)
        if not self.exchanges:
            tried = [self._roll_up(module, loop_candidates(module) if input_dim is None else tried)]
        self.time_first = self.per_step = self.squeeze_output = False
        self.carries_state = self.honours_lengths = False
        self.state_squeezed = isinstance(self.module, ExchangedLayer) and self.module.squeezed
        if isinstance(self.module, ExchangedLayer):  # the module was itself a layer, and its arguments went with it
            self.roles = Roles(sequence="input")
        found = {layer.number: layer.stack for layer in self.module.modules() if isinstance(layer, ExchangedLayer)}
        self.stacks = {number: _state_of(found[number]) for number in sorted(found)}
        if self.roles.needs_state and len(self.stacks) > 1:
            raise SignatureError(
                f"{type(module).__name__}.forward needs a state for {len(self.stacks)} recurrent layers, expected one "
                f"layer or none required; give {', '.join(self.roles.state)} the default None"
            )
        self.takes_tokens, self.input_dim = self._find_input(tried)
        self._find_layout()
        self._find_state()
        self._find_lengths()

    def _roll_up(self, module: nn.Module, tried: list[tuple[bool, int]]) -> tuple[bool, int]:
        """Put a loop that the module's own forward runs into recurrent layers; return what it reads."""
        try:
            rolled = roll(module, self._own_roles, self.carry, tried)
        except UnsupportedLayerError as err:
            raise UnsupportedLayerError(
                f"{type(module).__name__} has no recurrent layer, expected nn.LSTM, nn.GRU, a layer of cellgate.model "
                f"or a loop over time that cellgate could prove equal to its own: {err}"
            ) from err
        self.module, self.roles = rolled.module, Roles(sequence="input")
        self.exchanges = (
            Exchange(
                path="(itself)", was=f"loop in {type(module).__name__}.forward", proof="runs of six lengths equal"
            ),
        )
        return rolled.takes_tokens, rolled.width

    def state_tensors(self) -> tuple[StateTensor, ...]:
        """Return the state of all exchanged layers that run, in order of registration."""
        if not self.carries_state:
            return ()
        return tuple(
            replace(tensor, suffix=f"_{k}" if k else "")
            for k, tensors in enumerate(self.stacks.values())
            for tensor in tensors
        )

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """As SequenceModel.forward; lengths are ignored unless honoured, state unless carried."""
        lengths = lengths if self.honours_lengths else None
        try:
            y = self._call(x, lengths, state if self.carries_state else None)
            final = [tensor for number in self.stacks for tensor in self.carry.final.get(number, [])]
        finally:
            self.carry.begin(None, {})
        if self.per_step and lengths is not None:
            real = torch.arange(y.size(1), device=y.device).unsqueeze(0) < lengths.unsqueeze(1)
            y = torch.where(real.unsqueeze(2), y, torch.zeros_like(y))
        return y, final if self.carries_state else []

    def call_as_it_came(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return y [B, T, O] or [B, O] of the module before any exchange, or of its compiled form, from zero state."""
        exchanged = self.module, self.roles
        self.module, self.roles = module, self._own_roles
        try:
            return self._call(x, None, None)
        finally:
            self.module, self.roles = exchanged

    def _call(self, x: Tensor, lengths: Tensor | None, state: list[Tensor] | None) -> Tensor:
        """Call the module and return y as [B, T, O] or [B, O]."""
        y = _tensor_of(self.module, self._run(x, lengths, state))
        if self.squeeze_output:
            y = y.unsqueeze(-1)
        return y.transpose(0, 1) if self.time_first and self.per_step else y

    def _run(self, x: Tensor, lengths: Tensor | None, state: list[Tensor] | None) -> Any:
        """Load the Carry and call the module with its own arguments."""
        initial, rest = {}, list(state or [])
        for number, tensors in self.stacks.items() if state is not None else ():
            initial[number] = [rest.pop(0) for _ in tensors]
        self.carry.begin(lengths, initial)
        arguments: dict[str, Any] = {self.roles.sequence: x.transpose(0, 1) if self.time_first else x}
        if self.roles.lengths is not None:
            full = torch.full((x.size(0),), x.size(1), dtype=torch.int64)
            arguments[self.roles.lengths] = full if lengths is None else lengths.to(torch.int64)
        if self.roles.needs_state or (self.roles.state and state is not None):
            arguments |= self._state_arguments(self._zero_state(x.size(0)) if state is None else state)
        with packing_understood(self.module):
            return self.roles.call(self.module, arguments)

    def _state_arguments(self, state: list[Tensor]) -> dict[str, Any]:
        tensors = [tensor.squeeze(0) for tensor in state] if self.state_squeezed else state
        if len(self.roles.state) == 1:
            return {self.roles.state[0]: tensors[0] if len(tensors) == 1 else tuple(tensors)}
        return dict(zip(self.roles.state, tensors, strict=True))

    def _zero_state(self, rows: int, seed: int | None = None) -> list[Tensor]:
        """Return the state of the network, zeros or random."""
        generator = torch.Generator().manual_seed(seed or 0)
        shapes = [(t.rows, rows, t.width) for tensors in self.stacks.values() for t in tensors]
        if seed is None:
            return [torch.zeros(shape, dtype=self._dtype()) for shape in shapes]
        return [torch.randn(shape, generator=generator, dtype=self._dtype()) for shape in shapes]

    def _example(self, steps: int, rows: int = _ROWS, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.takes_tokens:
            return torch.randint(0, self.input_dim, (rows, steps), generator=generator)
        return torch.randn(rows, steps, self.input_dim, generator=generator, dtype=self._dtype())

    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)

    @torch.no_grad()
    def _find_input(self, tried: list[tuple[bool, int]]) -> tuple[bool, int]:
        """Try the widths of the module's own layers, first come first tried, until one runs."""
        forms = (self.state_squeezed, not self.state_squeezed) if self.roles.needs_state else (self.state_squeezed,)
        complaint: Exception | None = None
        for takes_tokens, width in tried:
            for self.state_squeezed in forms:
                self.takes_tokens, self.input_dim = takes_tokens, width
                try:
                    self._run(self._example(_PROBE_STEPS[0]), None, None)
                except Exception as err:  # noqa: BLE001 - a stranger's forward may fail in any way
                    complaint = complaint or err
                else:
                    return takes_tokens, width
        widths = ", ".join(str(width) for _, width in tried) or "none"
        raise SignatureError(
            f"{type(self.module).__name__}.forward runs for no input width (tried {widths}); it said "
            f"{type(complaint).__name__}: {_first_line(complaint)}; say --input-dim"
        )

    @torch.no_grad()
    def _find_layout(self) -> None:
        """Find which layers run, whether time comes first, and whether y has a step axis and an output axis."""
        shapes = []
        for steps in _PROBE_STEPS:
            shapes.append(list(_tensor_of(self.module, self._run(self._example(steps), None, None)).shape))
            seen = [self.carry.shapes[number] for number in self.stacks if number in self.carry.shapes]
            if not self.time_first and seen and seen[0] == (steps, _ROWS):
                self.time_first = True
                return self._find_layout()
        self.stacks = {number: tensors for number, tensors in self.stacks.items() if number in self.carry.calls}
        axes = [["B"], ["B", "O"]], [["T", "B"], ["T", "B", "O"]] if self.time_first else [["B", "T"], ["B", "T", "O"]]
        for self.per_step, layouts in zip((True, False), reversed(axes), strict=True):
            for self.squeeze_output, layout in zip((True, False), layouts, strict=True):
                fits = all(_is_laid_out(shape, layout, n) for shape, n in zip(shapes, _PROBE_STEPS, strict=True))
                if fits and ("O" not in layout or shapes[0][-1] == shapes[1][-1]):
                    self.output_dim = 1 if self.squeeze_output else shapes[0][-1]
                    return None
        raise SignatureError(
            f"{type(self.module).__name__}.forward returns shape {shapes[0]} for {_ROWS} rows of {_PROBE_STEPS[0]} "
            f"steps, expected {'[T, B, O]' if self.time_first else '[B, T, O]'} or [B, O] with one O for every length"
        )

    @torch.no_grad()
    def _find_state(self) -> None:
        """Carry the state if a random one, given as the module takes it, is what each layer begins with."""
        x = self._example(_PROBE_STEPS[0])
        self._run(x, None, None)
        runs_once = all(count == 1 for count in self.carry.calls.values())
        own = [tensor for tensors in self.carry.given.values() for tensor in tensors]
        starts_at_zero = not any(bool(tensor.abs().sum() > 0) for tensor in own)
        if not (runs_once and starts_at_zero) or (self.roles.state and len(self.stacks) > 1):
            return
        forms = (self.state_squeezed, not self.state_squeezed) if self.roles.state else (self.state_squeezed,)
        for overrules in (False, True):
            for squeezed in forms:
                self.carry.overrules, self.state_squeezed = overrules, squeezed
                if self._state_arrives(x):
                    self.carries_state = True
                    return
        self.carry.overrules, self.state_squeezed = False, forms[0]

    def _state_arrives(self, x: Tensor) -> bool:
        state = self._zero_state(_ROWS, seed=1)
        try:
            self._run(x, None, state)
        except Exception:  # noqa: BLE001 - then it does not take it in this form
            return False
        given = [tensor for tensors in self.carry.given.values() for tensor in tensors]
        if self.carry.overrules and any(bool(tensor.abs().sum() > 0) for tensor in given):
            return False  # the module makes something of the state, which must not be passed by
        used = [tensor for number in self.stacks for tensor in self.carry.used.get(number) or []]
        return len(used) == len(state) and all(
            a.shape == b.shape and torch.equal(a, b) for a, b in zip(used, state, strict=True)
        )

    def _find_lengths(self) -> None:
        """Compare a padded batch with its rows alone, for each way to fill the padding.

        In float64, so that even a small leak shows; in the module's own dtype where its code is bound to that.
        """
        twin = copy.deepcopy(self).double()
        twin.honours_lengths = True
        for fill in ("zero", "last"):
            twin.carry.fill = fill
            agree = twin._rows_alone_agree(1e-9)  # noqa: SLF001 - of this class
            if agree is None:
                self.carry.fill, self.honours_lengths = fill, True
                agree = self._rows_alone_agree(1e-5)
            if agree:
                self.carry.fill, self.honours_lengths = fill, True
                return
        self.carry.fill, self.honours_lengths = "zero", False

    @torch.no_grad()
    def _rows_alone_agree(self, tolerance: float) -> bool | None:
        """Return whether they do, or None where the module does not run so."""
        x = self._example(max(_PROBE_STEPS), seed=1)
        lengths = torch.tensor(_PROBE_LENGTHS)
        try:
            y, final = self(x, lengths)
            for row, count in enumerate(_PROBE_LENGTHS):
                y_alone, final_alone = self(x[row : row + 1, :count], lengths[row : row + 1])
                y_row = y[row : row + 1, :count] if self.per_step else y[row : row + 1]
                pairs = [(y_row, y_alone), *((a[:, row : row + 1], b) for a, b in zip(final, final_alone, strict=True))]
                if not all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs):
                    return False
        except ExportError:
            raise
        except Exception:  # noqa: BLE001 - a stranger's forward may fail in any way
            return None
        return True


def _tensor_of(module: nn.Module, result: Any) -> Tensor:
    """Return y of what a module's forward returned: the tensor, or the first of a tuple."""
    first = result[0] if isinstance(result, tuple | list) and len(result) > 0 else result
    if not isinstance(first, Tensor):
        found = type(result).__name__ if first is result else f"a {type(result).__name__} of {type(first).__name__}"
        raise SignatureError(
            f"{type(module).__name__}.forward returns {found}, expected a tensor, or a tuple whose first is one"
        )
    return first


def _state_of(stack: nn.Module) -> list[StateTensor]:
    """Return the state tensors of one exchanged layer; they outlive its lowering."""
    assert isinstance(stack, RecurrentStack)
    rows = stack.num_layers * stack.num_directions
    return [StateTensor(name=name, rows=rows, width=width) for name, width in stack.state_spec]


def _is_laid_out(shape: list[int], layout: list[str], steps: int) -> bool:
    sizes = {"B": _ROWS, "T": steps}
    return len(shape) == len(layout) and all(sizes.get(axis, n) == n for n, axis in zip(shape, layout, strict=True))


def _first_line(err: Exception | None) -> str:
    return str(err).strip().split("\n")[0][:200] if err is not None else ""
