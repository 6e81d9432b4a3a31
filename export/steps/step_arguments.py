"""Which argument of a forward is one step of the sequence, and which are the state: read off its names, or told.

Rules of this file: it reads signatures and code and runs nothing; what it says is tried out in step_probe.py.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Final

from torch import nn

from ..call_roles import check_told
from .step_form import StepArguments

_STATE_WORDS: Final = frozenset(
    {
        *("state", "states", "hidden", "hiddens", "hid", "memory", "mem", "carry", "cell"),
        *("h", "c", "s", "hx", "cx", "hc", "hxs", "ht", "ct", "hn", "cn"),
    }
)


def find_arguments(module: nn.Module, told: Mapping[str, str]) -> StepArguments | None:
    """Return which arguments are what; None where none could be a state, or a length is told, which one step has not.

    Args:
        module: its forward has named arguments.
        told: as for call_roles.find_roles.

    Raises:
        SignatureError: a told role or name does not exist.
    """
    if type(module).forward is nn.Module.forward or told.get("lengths"):
        return None
    parameters = inspect.signature(module.forward).parameters
    named = {n: p for n, p in parameters.items() if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}}
    check_told(f"{type(module).__name__}.forward({', '.join(parameters)})", told, named)
    state = tuple(told["state"].split(",")) if told.get("state") else ()
    sequence = told.get("sequence") or next(
        (n for n in named if n not in state and (state or not is_state_name(n))), next(iter(named), None)
    )
    if not state:
        needed = {n for n, p in named.items() if p.default is p.empty}
        state = tuple(n for n in named if n != sequence and (n in needed or is_state_name(n)))
    if sequence is None or not state or not {sequence, *state} <= set(named):
        return None
    positional = tuple(n for n, p in named.items() if p.kind is p.POSITIONAL_ONLY)
    return StepArguments(sequence=sequence, state=state, positional=positional)


def is_state_name(name: str) -> bool:
    """Whether an argument's name says that it is a state, or one of several: h1, prev_hidden, lstm_state."""
    return bool(_STATE_WORDS & set(re.sub(r"\d+", "", name.lower()).split("_")))


def returned_names(module: nn.Module) -> tuple[str | None, ...]:
    """Return the names that the last ``return`` of forward hands back, None for what is no name; () where unknown."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(type(module).forward)))
    except (OSError, TypeError, SyntaxError):
        return ()
    returns = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    if not returns or not isinstance(returns[-1], ast.Tuple):
        return ()
    return tuple(part.id if isinstance(part, ast.Name) else None for part in _flat(returns[-1]))


def _flat(node: ast.Tuple) -> list[ast.expr]:
    return [inner for part in node.elts for inner in (_flat(part) if isinstance(part, ast.Tuple) else [part])]
