"""Which argument of a foreign module's ``forward`` plays which part: read off the names, or told.

Rules of this file: it reads signatures and runs nothing; whether the parts are right is found out on runs
(network.py).
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from ..errors import SignatureError
from .cut_inputs import CutInputs

_ROLES: Final = ("sequence", "lengths", "mask", "state")
# text_lengths, x_lens, seq_len, ...; a number that limits an output (max_len, pred_len) is none.
_LENGTHS: Final = re.compile(r"(?!max|min|pred|out|target|tgt|label|horizon)\w*(?:lengths?|lens?)")
# mask, attention_mask, src_key_padding_mask, ...; what hides other things than padding (causal, loss, missing) is none.
_MASKED: Final = (
    *("x", "src", "source", "seq", "seqs", "sequence", "input", "inputs", "token", "tokens", "text", "word"),
    *("sentence", "attention", "attn", "att", "pad", "padding", "key", "valid", "length", "lengths", "time"),
    *("step", "steps", "frame", "batch", "encoder", "enc", "rnn", "lstm", "gru"),
)
_MASKS: Final = re.compile(rf"(?:(?:{'|'.join(_MASKED)})_)*masks?")
# In the order in which the layers take them: hidden before cell, whatever the order of the arguments.
_STATE_NAMES: Final = (
    *("state", "states", "hx", "hxs", "hidden", "hiddens", "hid", "hidden_state", "hidden_states", "hidden_cell"),
    *("initial_state", "initial_states", "init_state", "init_states", "init_hidden", "prev_state", "prev_hidden"),
    *("rnn_state", "rnn_states", "rnn_hxs", "lstm_state", "h_state"),
    *("h", "h0", "h_0", "hn", "h_n", "h_t", "h_in", "h_prev", "prev_h"),
    *("c", "c0", "c_0", "cn", "c_n", "c_t", "c_in", "c_prev", "prev_c", "cx", "cell", "cell_state", "c_state"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """Which argument of forward plays which part; None and empty where none does.

    Attributes:
        sequence: x or tokens.
        lengths: the real steps of each row.
        mask: which steps are real, or which are padding (call_mask.py).
        needs_mask: whether it has no default, or was told.
        state: one argument for all state tensors, or one for each, hidden before cell.
        needs_state: whether a state argument has no default.
        positional: arguments that may not be named, in order.
    """

    sequence: str
    lengths: str | None = None
    mask: str | None = None
    needs_mask: bool = False
    state: tuple[str, ...] = ()
    needs_state: bool = False
    positional: tuple[str, ...] = ()

    def call(self, module: nn.Module, arguments: Mapping[str, Any]) -> Any:
        """Call ``module`` with named arguments, by position where it takes them so."""
        named = dict(arguments)
        ordered = [named.pop(name) for name in self.positional if name in named]
        return module(*ordered, **named)


def find_roles(module: nn.Module, told: Mapping[str, str] | None = None) -> Roles:
    """Read the roles off the names in ``forward``, or take those told.

    Args:
        module: its forward has named arguments.
        told: argument name for the roles "sequence", "lengths", "mask", "state" (names joined by commas).

    Raises:
        SignatureError: a told role or name does not exist, no argument is left for the sequence, or an argument
            without default has no role.
    """
    told = told or {}
    name = type(module).__name__
    if type(module).forward is nn.Module.forward:
        raise SignatureError(
            f"{name} has no forward of its own, expected forward(self, x); give it one, or name a factory that returns "
            "the part of it that has one"
        )
    parameters = inspect.signature(module.forward).parameters
    named = {n: p for n, p in parameters.items() if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}}
    what = f"{name}.forward({', '.join(module.own if isinstance(module, CutInputs) else parameters)})"
    state = tuple(told["state"].split(",")) if told.get("state") else tuple(n for n in _STATE_NAMES if n in named)
    lengths = told.get("lengths") or next((n for n in named if _LENGTHS.fullmatch(n)), None)
    sequence, mask = _sequence_and_mask(told, [n for n in named if n not in {*state, lengths}])
    check_told(what, told, named)
    if sequence is None:
        raise SignatureError(f"{what} has no argument {_taken(told)}for the sequence, expected forward(self, x)")
    parts = {sequence, lengths, mask, *state}
    unknown = [n for n, p in named.items() if n not in parts and p.default is inspect.Parameter.empty]
    if unknown:
        raise SignatureError(
            f"{what} needs {unknown[0]!r}, which is neither sequence, lengths, mask nor state; give it a default, say "
            "its part with --argument sequence=NAME (lengths, mask, state), or, where it is a further input, say how "
            f"many columns of one x each has: --columns {_columns(module, sequence, unknown)} (docs/modules.md, "
            "several inputs)"
        )
    return Roles(
        sequence=sequence,
        lengths=lengths,
        mask=mask,
        needs_mask=mask is not None and (named[mask].default is inspect.Parameter.empty or "mask" in told),
        state=state,
        needs_state=any(named[n].default is inspect.Parameter.empty for n in state),
        positional=tuple(n for n, p in named.items() if p.kind is p.POSITIONAL_ONLY),
    )


def _columns(module: nn.Module, sequence: str, unknown: Sequence[str]) -> str:
    """Return what --columns could say, as far as it is known."""
    told = [f"{one.name}={one.width}" for one in module.columns] if isinstance(module, CutInputs) else []
    return ",".join([*(told or [f"{sequence}=WIDTH"]), *(f"{name}=WIDTH" for name in unknown)])


def left_at_none(module: nn.Module, roles: Roles) -> list[str]:
    """Return the arguments of forward that play no part, and whose default is None."""
    parts = {roles.sequence, roles.lengths, roles.mask, *roles.state}
    parameters = inspect.signature(module.forward).parameters
    return [name for name, one in parameters.items() if name not in parts and one.default is None]


def _sequence_and_mask(told: Mapping[str, str], names: list[str]) -> tuple[str | None, str | None]:
    """Return which of the arguments that are neither lengths nor state are what; one alone is the sequence."""
    sequence = told.get("sequence")
    mask = told.get("mask") or next((n for n in names if n != sequence and _MASKS.fullmatch(n)), None)
    sequence = sequence or next((n for n in names if n != mask), None)
    if sequence is None and "mask" not in told:
        sequence, mask = mask, None
    return sequence, mask


def _taken(told: Mapping[str, str]) -> str:
    """Say which arguments were told to play another part, so that none is left."""
    words = [f"--argument {role}={name}" for role, names in told.items() for name in names.split(",")]
    return f"left beside {' '.join(words)} " if words else ""


def check_told(what: str, told: Mapping[str, str], named: Mapping[str, object]) -> None:
    """Raise SignatureError where a told part is none, or its argument is none of ``named``."""
    for role, names in told.items():
        if role not in _ROLES:
            raise SignatureError(f"{role!r} is no part that an argument can play, expected one of {', '.join(_ROLES)}")
        for name in names.split(","):
            if name not in named:
                raise SignatureError(f"{what} has no argument {name!r} for the {role}, expected one of those it has")
