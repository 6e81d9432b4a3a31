"""Which argument of a forward is one step of the sequence, and which are the state: read off its names, or told.

Rules of this file: it reads signatures and runs nothing; what it says is tried out in step_probe.py.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Final

from torch import nn

from ..foreign.call_roles import check_told
from .step_form import StepArguments

_STATE_WORDS: Final = frozenset(
    {*("state", "states", "hidden", "hiddens", "hid"), *("h", "hx", "hc", "hxs", "ht", "hn")}
)
# A name that may as well be a condition or another network's output: a state only beside one of those above.
_SECOND_WORDS: Final = frozenset({*("c", "cx", "ct", "cn", "cell", "cells"), *("s", "memory", "mem", "carry")})


def find_arguments(module: nn.Module, told: Mapping[str, str], *, makes_states: bool) -> StepArguments | None:
    """Return which arguments are what; None where none could be a state, or lengths or a mask are told.

    Args:
        module: its forward has named arguments.
        told: as for call_roles.find_roles.
        makes_states: whether it has a method that makes a state.

    Raises:
        SignatureError: a told role or name does not exist.
    """
    if type(module).forward is nn.Module.forward or told.keys() & {"lengths", "mask"}:
        return None
    parameters = inspect.signature(module.forward).parameters
    named = {n: p for n, p in parameters.items() if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}}
    check_told(f"{type(module).__name__}.forward({', '.join(parameters)})", told, named)
    state = tuple(told["state"].split(",")) if told.get("state") else _states_among(named, makes_states=makes_states)
    sequence = told.get("sequence") or next((n for n in named if n not in state), None)
    needed = {n for n, p in named.items() if p.default is p.empty}
    if sequence is None or not state or sequence in state or not needed <= {sequence, *state}:
        return None
    positional = tuple(n for n, p in named.items() if p.kind is p.POSITIONAL_ONLY)
    return StepArguments(sequence=sequence, state=state, positional=positional)


def _states_among(names: Iterable[str], *, makes_states: bool) -> tuple[str, ...]:
    """Return the names that say that they are states, or one of several: h1, prev_hidden, lstm_state."""
    words = {name: set(re.sub(r"\d+", "", name.lower()).split("_")) for name in names}
    first = [name for name in words if says_state(name)]
    second = [name for name in words if words[name] & _SECOND_WORDS] if first or makes_states else []
    return tuple(name for name in words if name in first or name in second)


def says_state(name: str) -> bool:
    """Whether a name says that it is a state: hidden, h1, prev_hidden."""
    return bool(set(re.sub(r"\d+", "", name.lower()).split("_")) & _STATE_WORDS)
