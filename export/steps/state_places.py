"""Which of the tensors that a step gives back are its states, in the order of the arguments.

The names in the code tell it, ``c_new`` for the argument ``c`` too; else the nesting does, a pair for a pair; else the
shapes, where they fit one place alone. What fits several is not guessed at.

Rules of this file: it reads code and shapes and runs nothing.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from torch import Tensor, nn

from ..foreign.answer import named_tensors, tensors_of, tree_of
from .step_arguments import says_state
from .step_form import StepForm, flat

_TIMES: Final = frozenset(
    {"new", "next", "prev", "previous", "old", "last", "out", "in", "cur", "current", "t", "n", "x"}
)
_SAME: Final = {
    "hn": "h",
    "hx": "h",
    "ht": "h",
    "hidden": "h",
    "hid": "h",
    "cn": "c",
    "cx": "c",
    "ct": "c",
    "cell": "c",
}
_SEVERAL: Final = 2


def find_places(module: nn.Module, form: StepForm, result: Any, rows: int) -> list[tuple[int, ...]]:
    """Return the places of the states in a result: one, or those that fit as well where nothing decides.

    Args:
        module: as it came.
        form: its arguments and the shapes of its states.
        result: what forward gave.
        rows: B of that run.
    """
    given = tensors_of(result)
    wanted = [leaf.shape(rows) for leaf in form.leaves]

    def fits(places: tuple[int, ...]) -> bool:
        return [tuple(given[place].shape) for place in places] == wanted

    told = [
        places
        for places in (_by_names(form, _names(module, result)), _by_nesting(form, result))
        if places and fits(places)
    ]
    return told[:1] or [places for places in _in_a_row(len(given), len(wanted)) if fits(places)]


def _in_a_row(given: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield states next to each other: behind the answer, further back, and before it."""
    if given == count:
        yield tuple(range(count))
    for first in [*range(1, given - count + 1), *([0] if given > count else [])]:
        yield tuple(range(first, first + count))


def _names(module: nn.Module, result: Any) -> tuple[str | None, ...]:
    """Return a name for each tensor of a result, by its keys or fields, or by what the code calls it; () if unknown."""
    found = tuple(name for name, _ in named_tensors(result))
    if type(result) not in {tuple, list, Tensor}:
        return found
    names = returned_names(module)
    return names if len(names) == len(found) else ()


def _by_names(form: StepForm, names: Sequence[str | None]) -> tuple[int, ...]:
    """Return the places of the states by their names; () where these do not tell all."""
    state = form.arguments.state
    if not names or len(form.leaves) != len(state):
        return ()
    if set(state) <= set(names):
        return tuple(names.index(name) for name in state)
    cores = [None if name is None else _core(name) for name in names]
    if all(cores.count(_core(name)) == 1 for name in state):
        return tuple(cores.index(_core(name)) for name in state)
    states = [place for place, name in enumerate(names) if name is not None and says_state(name)]
    return (states[0],) if len(states) == len(state) == 1 else ()


def _core(name: str) -> str:
    """Return a name without what says when: c for c_new and prev_c, h1 for hx_1."""
    words = [word for word in name.lower().split("_") if word not in _TIMES] or [name.lower()]
    parts = [re.fullmatch(r"(\D*)(\d*)", word) for word in words]
    return "".join(_SAME.get(part[1], part[1]) + part[2] if part else "?" for part in parts)


def _by_nesting(form: StepForm, result: Any) -> tuple[int, ...]:
    """Return the places in the one part of a result that is nested as the one state is; () where not one is."""
    tree = tree_of(result)
    if len(form.template) != 1 or len(form.leaves) < _SEVERAL or not isinstance(tree, tuple | list):
        return ()
    first, found = 0, []
    for part in tree:
        count = sum(1 for _ in flat(part))
        if _plain(part) == _plain(form.template[0]):
            found.append(tuple(range(first, first + count)))
        first += count
    return found[0] if len(found) == 1 else ()


def _plain(tree: Any) -> Any:
    return [_plain(part) for part in tree] if isinstance(tree, tuple | list) else 0


def returned_names(module: nn.Module) -> tuple[str | None, ...]:
    """Return the names that every ``return`` of forward hands back, None for what is no name; () where unknown."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(type(module).forward)))
    except (OSError, TypeError, SyntaxError):
        return ()
    returns = [node.value for node in _own_nodes(tree.body[0]) if isinstance(node, ast.Return)]
    named = {
        tuple(part.id if isinstance(part, ast.Name) else None for part in _parts(value))
        for value in returns
        if isinstance(value, ast.Tuple)
    }
    return named.pop() if len(named) == 1 and all(isinstance(value, ast.Tuple) for value in returns) else ()


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is inside a function, but not inside a function in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def _parts(node: ast.Tuple) -> list[ast.expr]:
    return [inner for part in node.elts for inner in (_parts(part) if isinstance(part, ast.Tuple) else [part])]
