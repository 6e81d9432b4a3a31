"""A network that somebody else wrote, behind the call of this house: (x, lengths, state) -> (y, state).

What the module's ``forward`` does not take, its exchanged layers get through their Carry. Whether lengths are honoured
is not assumed: a padded batch is compared with its rows alone, and a module that passes neither as it is nor with the
last real step repeated in the padding gets no lengths at all.

Rules of this file: the module's parameters and buffers are never changed; every guess is checked on a run.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..model.network import StateTensor
from .errors import SignatureError, UnsupportedLayerError
from .exchange import ExchangedLayer, exchange
from .ragged import packing_understood

_LENGTH_NAMES: Final = frozenset(
    {"lengths", "length", "lens", "seq_lens", "seq_lengths", "sequence_lengths", "x_lengths", "input_lengths"}
)
_STATE_NAMES: Final = frozenset(
    {
        "state",
        "states",
        "hx",
        "hidden",
        "hidden_state",
        "h",
        "c",
        "h0",
        "c0",
        "h_0",
        "c_0",
        "cell",
        "initial_state",
        "prev_state",
    }
)
_PROBE_STEPS: Final = (5, 7)
_ROWS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """Which argument of forward plays which part; None and empty where none does."""

    sequence: str
    lengths: str | None = None
    state: tuple[str, ...] = ()


def find_roles(module: nn.Module, told: Mapping[str, str] | None = None) -> Roles:
    """Read the roles off the names in ``forward``, or take those told.

    Args:
        module: its forward has named positional arguments.
        told: argument name for the roles "sequence", "lengths", "state" (names joined by commas).

    Raises:
        SignatureError: a told name is no argument, or an argument without default has no role.
    """
    told = told or {}
    parameters = inspect.signature(module.forward).parameters
    names = [n for n, p in parameters.items() if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    what = f"{type(module).__name__}.forward({', '.join(names)})"
    state = tuple(told["state"].split(",")) if told.get("state") else tuple(n for n in names if n in _STATE_NAMES)
    lengths = told.get("lengths") or next((n for n in names if n in _LENGTH_NAMES), None)
    taken = {*state, lengths}
    sequence = told.get("sequence") or next((n for n in names if n not in taken), None)
    for name in (sequence, *([lengths] if lengths else []), *state):
        if name not in names:
            raise SignatureError(
                f"{what} has no argument {name!r}, expected the sequence and, told or named so, lengths and state"
            )
    unknown = [n for n in names if n not in {*taken, sequence} and parameters[n].default is inspect.Parameter.empty]
    if unknown:
        raise SignatureError(
            f"{what} needs {unknown[0]!r}, which is neither sequence, lengths nor state; give it a default or say its "
            "part with --argument sequence=NAME, --argument lengths=NAME or --argument state=NAME"
        )
    assert sequence is not None
    return Roles(sequence=sequence, lengths=lengths, state=state)


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
        if not self.exchanges:
            raise UnsupportedLayerError(
                f"{type(module).__name__} has no recurrent layer, expected nn.LSTM, nn.GRU, a layer of cellgate.model or a "
                "loop over a cell that cellgate could prove equal to its own"
            )
        if isinstance(self.module, ExchangedLayer):  # the module was itself a layer, and its arguments went with it
            self.roles = Roles(sequence="input")
        self.time_first = False
        self.carries_state = False
        self.honours_lengths = False
        self.per_step = True
        self.squeeze_output = False
        self.takes_tokens, self.input_dim = self._find_input(input_dim)
        self._find_layout()
        self._find_state()
        self._find_lengths()

    @property
    def layers(self) -> list[nn.Module]:
        """The exchanged layers, by number."""
        found = [m for m in self.module.modules() if hasattr(m, "carry") and hasattr(m, "number")]
        return [layer.stack for layer in sorted(found, key=lambda layer: int(layer.number))]  # type: ignore[arg-type, misc]

    def state_tensors(self) -> tuple[StateTensor, ...]:
        """Return the state of all exchanged layers, in order of registration."""
        if not self.carries_state:
            return ()
        return tuple(
            StateTensor(
                name=name, rows=stack.num_layers * stack.num_directions, width=width, suffix=f"_{k}" if k else ""
            )  # type: ignore[operator]
            for k, stack in enumerate(self.layers)
            for name, width in stack.state_spec  # type: ignore[union-attr]
        )

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """As SequenceModel.forward; lengths are ignored unless honoured, state unless carried."""
        self._load(lengths if self.honours_lengths else None, state if self.carries_state else None)
        y = self._call(x, lengths, state)
        final = [tensor for k in sorted(self.carry.final) for tensor in self.carry.final[k]]
        self._load(None, None)
        if self.per_step and lengths is not None and self.honours_lengths:
            real = torch.arange(y.size(1), device=y.device).unsqueeze(0) < lengths.unsqueeze(1)
            y = torch.where(real.unsqueeze(2), y, torch.zeros_like(y))
        return y, final if self.carries_state else []

    def _load(self, lengths: Tensor | None, state: list[Tensor] | None) -> None:
        self.carry.lengths = lengths
        self.carry.final = {}
        self.carry.initial = None
        if state is not None:
            rest = list(state)
            counts = [len(stack.state_spec) for stack in self.layers]  # type: ignore[arg-type]
            self.carry.initial = [[rest.pop(0) for _ in range(count)] for count in counts]

    def _call(self, x: Tensor, lengths: Tensor | None, state: list[Tensor] | None) -> Tensor:
        """Call the module and return y as [B, T, O] or [B, O]."""
        arguments: dict[str, Any] = {self.roles.sequence: x.transpose(0, 1) if self.time_first else x}
        if self.roles.lengths is not None:
            full = torch.full((x.size(0),), x.size(1), dtype=torch.int64)
            arguments[self.roles.lengths] = full if lengths is None else lengths.to(torch.int64)
        if self.roles.state and state is not None and self.carries_state:
            single = state[0] if len(state) == 1 else tuple(state)
            values = list(state) if len(self.roles.state) > 1 else [single]
            arguments |= dict(zip(self.roles.state, values, strict=True))
        with packing_understood(self.module):
            result = self.module(**arguments)
        y = result if isinstance(result, Tensor) else result[0]
        if self.squeeze_output:
            y = y.unsqueeze(-1)
        return y.transpose(0, 1) if self.time_first and self.per_step else y

    def call_as_it_came(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return y [B, T, O] or [B, O] of the module before any exchange, or of its compiled form, from zero state."""
        exchanged = self.module, self.roles
        self.module, self.roles = module, self._own_roles
        try:
            return self._call(x, None, None)
        finally:
            self.module, self.roles = exchanged

    def _example(self, steps: int, rows: int = _ROWS, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.takes_tokens:
            return torch.randint(0, self.input_dim, (rows, steps), generator=generator)
        return torch.randn(rows, steps, self.input_dim, generator=generator, dtype=self._dtype())

    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)

    def _find_input(self, input_dim: int | None) -> tuple[bool, int]:
        """Try the widths of the module's own layers, first come first tried, until one runs."""
        tried = [(False, input_dim)] if input_dim is not None else _input_candidates(self.module)
        complaint: Exception | None = None
        for takes_tokens, width in tried:
            self.takes_tokens, self.input_dim = takes_tokens, width
            try:
                with torch.no_grad():
                    self._load(None, None)
                    self._call(self._example(_PROBE_STEPS[0]), None, None)
            except Exception as err:  # noqa: BLE001 - a stranger's forward may fail in any way
                complaint = err
                continue
            return takes_tokens, width
        widths = ", ".join(str(width) for _, width in tried) or "none"
        raise SignatureError(
            f"{type(self.module).__name__}.forward runs for no input width (tried {widths}); its last word was "
            f"{type(complaint).__name__}: {_first_line(complaint)}; say --input-dim"
        )

    def _find_layout(self) -> None:
        """Find whether time comes first, and whether y has a step axis and an output axis."""
        self.time_first = self.carry.shapes.get(0) == (_PROBE_STEPS[0], _ROWS)
        self.per_step = False  # what comes back is looked at as it is
        shapes = []
        for steps in _PROBE_STEPS:
            with torch.no_grad():
                self._load(None, None)
                shapes.append(tuple(self._call(self._example(steps), None, None).shape))
        first, second = shapes
        step_axis = [k for k, (a, b) in enumerate(zip(first, second, strict=True)) if (a, b) == _PROBE_STEPS]
        row_axis = [k for k, a in enumerate(first) if a == _ROWS and k not in step_axis]
        expected_step_axis = 0 if self.time_first else 1
        self.per_step = bool(step_axis)
        self.squeeze_output = len(first) == (2 if self.per_step else 1)
        rank = 3 if self.per_step else 2
        if (
            len(first) + self.squeeze_output != rank
            or (self.per_step and step_axis[0] != expected_step_axis)
            or not row_axis
        ):
            raise SignatureError(
                f"{type(self.module).__name__}.forward returns shape {list(first)} for {_ROWS} rows of {_PROBE_STEPS[0]} "
                f"steps, expected [B, T, O] or [B, O]"
            )
        self.output_dim = 1 if self.squeeze_output else first[-1]

    def _find_state(self) -> None:
        """State can be carried unless the module starts from one of its own that is not zero."""
        given = [tensor for tensors in self.carry.given.values() for tensor in tensors]
        self.carry.overrules = not self.roles.state and bool(given)
        own_start = any(bool(tensor.abs().sum() > 0) for tensor in given)
        several = len(self.roles.state) > 0 and len(self.layers) > 1
        self.carries_state = not own_start and not several
        self.carry.given = {}

    def _find_lengths(self) -> None:
        """Compare a padded batch with its rows alone, for each way to fill the padding."""
        self.honours_lengths = True
        for fill in ("zero", "last"):
            self.carry.fill = fill
            if self._rows_alone_agree():
                return
        self.honours_lengths = False
        self.carry.fill = "zero"

    def _rows_alone_agree(self) -> bool:
        steps = max(_PROBE_STEPS)
        x = self._example(steps, seed=1)
        lengths = torch.tensor([steps, 4, 1][:_ROWS])
        with torch.no_grad():
            try:
                y, final = self(x, lengths)
            except Exception:  # noqa: BLE001 - then it does not take them
                return False
            for row, count in enumerate(lengths.tolist()):
                y_alone, final_alone = self(x[row : row + 1, :count], torch.tensor([count]))
                y_row = y[row : row + 1, :count] if self.per_step else y[row : row + 1]
                pairs = [(y_row, y_alone), *((a[:, row : row + 1], b) for a, b in zip(final, final_alone, strict=True))]
                if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs):
                    return False
        return True


def _input_candidates(module: nn.Module) -> list[tuple[bool, int]]:
    """Return (takes tokens, width) for each layer that could be the first, in order of registration, without repeats."""
    found: list[tuple[bool, int]] = []
    for layer in module.modules():
        if isinstance(layer, nn.Embedding):
            found.append((True, layer.num_embeddings))
        elif isinstance(layer, nn.Linear):
            found.append((False, layer.in_features))
        elif isinstance(layer, nn.modules.conv._ConvNd):  # noqa: SLF001 - torch has no public name for the base class
            found.append((False, layer.in_channels))
        elif isinstance(layer, nn.LayerNorm):
            found.append((False, int(layer.normalized_shape[-1])))
        elif hasattr(layer, "input_dim") and hasattr(layer, "state_spec"):
            found.append((False, int(layer.input_dim)))
    return list(dict.fromkeys(found))


def _first_line(err: Exception | None) -> str:
    return str(err).strip().split("\n")[0][:200] if err is not None else ""
