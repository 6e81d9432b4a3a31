"""How a module takes one step, found out on runs: its input, the shapes of its state, and which tensor is which.

A form is right where the module runs with it for two numbers of rows and gives every state back in the shape in which
it took it. A module that would as well take several steps in the place of one is no such module.

Rules of this file: a stranger's code runs here, and whatever it raises is an answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..errors import AnswerError, SignatureError
from ..foreign.answer import named_tensors, tensors_of, tree_of
from ..foreign.call_modes import CpuOnly
from ..foreign.own_attributes import attributes_kept
from ..input_width import loop_candidates
from .state_candidates import ROWS, state_candidates, state_makers
from .state_places import find_places
from .step_arguments import find_arguments
from .step_call import StepCall
from .step_form import StateLeaf, StepArguments, StepForm, template_of
from .step_run import draw_step, draws, goes_into_something, reads, run_step

_SEVERAL: Final = 4  # steps in the place of one
_MOST_GUESSES: Final = 1200
_MOST_ORDERED: Final = 6  # states whose order is looked at


@torch.no_grad()
def find_form(
    module: nn.Module, told: Mapping[str, str], input_dim: int | None, answer: str | None = None
) -> StepForm | None:
    """Return how the module takes one step, or None where it takes none; for the arguments see `stepped`.

    Raises:
        SignatureError: it gives its states back in another order than it takes them or where several tensors may be
            them, takes one row alone, or lets rows change each other.
        AnswerError: it returns nothing that is called as told.
    """
    arguments = find_arguments(module, told, makes_states=bool(state_makers(module)))
    if arguments is None:
        return None
    near: StepForm | None = None
    for form, guessed in _forms(module, arguments, input_dim, answer):
        found = _tried(module, form)
        # What draws by chance is refused for that, where any network is.
        if found is not None and (_rows_stay_apart(module, found) or draws(module, found)):
            _check_order(module, found)
            return found
        if found is not None and not form.one_row:
            raise SignatureError(_of_rows(type(module).__name__, found))
        near = near or (None if guessed else found)
    if near is not None:
        raise SignatureError(_of_rows(type(module).__name__, near))
    if answer is not None and (other := find_form(module, told, input_dim)) is not None:
        several = ", and one alone; to have several, give back torch.cat of them" if "," in answer else ""
        raise AnswerError(
            f"{type(module).__name__}.forward takes one step and returns no numbers [B, O] called {answer!r} "
            f"(--answer), expected one of {', '.join(other.names)}{several}"
        )
    return None


def _forms(
    module: nn.Module, arguments: StepArguments, input_dim: int | None, answer: str | None
) -> Iterator[tuple[StepForm, bool]]:
    """Yield (form, whether its state is guessed) to try, guesses not without end: each is a run or more."""
    widths = loop_candidates(module) if input_dim is None else [(False, input_dim), (True, input_dim)]
    candidates = {repr(one): one for one in state_candidates(module, len(arguments.state))}.values()
    guesses = 0
    for one_row in (False, True):
        for state in candidates:
            for takes_tokens, width, axes in _inputs(widths, state.leaves if input_dim is None else ()):
                guesses += state.guessed
                if state.guessed and guesses > _MOST_GUESSES:
                    break
                form = StepForm(
                    arguments=arguments,
                    takes_tokens=takes_tokens,
                    width=width,
                    axes=axes,
                    one_row=one_row,
                    template=state.template,
                    leaves=state.leaves,
                    told=answer,
                )
                yield form, state.guessed


def _of_rows(name: str, form: StepForm) -> str:
    """Say why a module that takes one step takes no batch."""
    if form.one_row:
        return (
            f"{name}.forward takes one step of one row alone, expected a batch [B, I] or tokens [B]; let it say "
            "x.size(0) where it says 1, as in x.view(x.size(0), -1)"
        )
    return (
        f"{name}.forward lets a row change the output of another, expected each row by itself; look for a view() or "
        "reshape() that mixes the batch with another axis, and for a mean over the batch"
    )


def _inputs(widths: list[tuple[bool, int]], leaves: tuple[StateLeaf, ...]) -> Iterator[tuple[bool, int, str]]:
    """Yield (takes tokens, width, axes) to try: the widths of layers, then those of the states."""
    more = [(False, leaf.after[-1]) for leaf in leaves if leaf.after]
    for takes_tokens, width in dict.fromkeys([*widths, *more]):
        for axes in ("B", "1B", "B1") if takes_tokens else ("BI", "1BI", "B1I"):
            yield takes_tokens, width, axes


def _tried(module: nn.Module, form: StepForm) -> StepForm | None:
    """Return the form with what comes back; None where the module does not run so, or takes whole sequences."""
    found = None
    for rows in (1,) if form.one_row else ROWS:
        result = run_step(module, form, *draw_step(form, rows, seed=1))
        said = None if result is None else _read(module, form, result, rows)
        if said is None or (found is not None and said != found):
            return None
        found = said
    if found is None or not all(goes_into_something(module, found, number) for number in range(len(found.leaves))):
        return None
    return None if _takes_several(module, found) else found


def _read(module: nn.Module, form: StepForm, result: Any, rows: int) -> StepForm | None:
    """Find the states in what came back (state_places.py) and the answer; in doubt the first places that fit."""
    given = tensors_of(result)
    read = []
    for states in find_places(module, form, result, rows):
        names = tuple(name for name, _ in named_tensors(result))
        others = [number for number in range(len(given)) if number not in states]
        answer = others[0] if others else 0
        if form.told is not None:
            places = [place for place, _ in named_tensors(result, by_place=True)]
            answer = next((number for number in range(len(given)) if form.told in (names[number], places[number])), -1)
        width = None if answer < 0 else _width_of(tuple(given[answer].shape), rows)
        if width is not None and given[answer].is_floating_point():
            template = template_of(tree_of(result))
            read.append(replace(form, result=template, answer=answer, states=states, output_dim=width, names=names))
    return replace(read[0], in_doubt=len(read) > 1, in_dict=_is_dict_of_tensors(result)) if read else None


def _is_dict_of_tensors(result: Any) -> bool:
    return isinstance(result, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in result.items()
    )


def _width_of(shape: tuple[int, ...], rows: int) -> int | None:
    """Return O of an answer [B, O], [1, B, O], [B, 1, O], [B] or [1, B]."""
    for fitting in ((rows,), (1, rows)):
        if shape == fitting:
            return 1
        if shape[:-1] in {fitting, (*fitting, 1)}:
            return shape[-1]
    return None


def _takes_several(module: nn.Module, form: StepForm) -> bool:
    """Whether the module runs as well with more on an axis than its state has rows: then that axis is time."""
    rows = 1 if form.one_row else ROWS[0]
    x, leaves = draw_step(form, rows, seed=2)
    laid = form.hand_over(x)
    several = replace(form, axes=form.axes.replace("1", ""))  # laid out already
    for axis in range(laid.dim() - (not form.takes_tokens)):
        more = laid.repeat([_SEVERAL if k == axis else 1 for k in range(laid.dim())])
        result = run_step(module, several, more, leaves)
        given = [tuple(tensor.shape) for tensor in tensors_of(result)]
        if len(given) > max(form.states) and all(
            given[number] == leaf.shape(rows) for number, leaf in zip(form.states, form.leaves, strict=True)
        ):
            return True
    return False


def _check_order(module: nn.Module, form: StepForm) -> None:
    """Refuse where another order of the states would let each depend on the one that it takes the place of.

    Raises:
        SignatureError: h1, c1, h2, c2 come back as h1, h2, c1, c2, or alike; or nothing says which tensors are states.
    """
    if form.in_doubt:
        names = ", ".join(form.arguments.state)
        raise SignatureError(
            f"{type(module).__name__}.forward gives back several tensors that have the shape of {names}, expected one "
            f"place for it; let every return name the new state like its argument, as in: return answer, {names}"
        )
    count = len(form.leaves)
    if len(form.arguments.state) == 1 or count > _MOST_ORDERED:  # what is one thing is handed on as it is
        return
    read = [[reads(module, form, old, new) for old in range(count)] for new in range(count)]
    if all(read[k][k] for k in range(count)):
        return
    for order in permutations(range(count)):
        if all(form.leaves[k] == form.leaves[order[k]] and read[order[k]][k] for k in range(count)):
            names = ", ".join(form.arguments.state)
            raise SignatureError(
                f"{type(module).__name__}.forward takes the states {names} and gives them back in another order, "
                f"expected the same; let it return the answer and then {names}, each under the name of its argument"
            )


def _rows_stay_apart(module: nn.Module, form: StepForm) -> bool:
    """Whether each row of a batch gives what it gives alone, and every state goes into something."""
    wide = StepCall(module, form)
    for rows in ROWS:
        x, leaves = draw_step(form, rows, seed=4)
        try:
            with CpuOnly(), attributes_kept(module):
                together = wide(x, leaves)
                alone = [wide.take(x[k : k + 1], _row(form, leaves, k)) for k in range(rows)]
        except Exception:  # noqa: BLE001 - a stranger's forward may refuse more rows, or one, in any way it likes
            return False
        y = torch.cat([said for said, _ in alone])
        states = [
            torch.cat(parts, leaf.axis)
            for leaf, parts in zip(form.leaves, zip(*(s for _, s in alone), strict=True), strict=True)
        ]
        pairs = zip([together[0], *together[1]], [y, *states], strict=True)
        if not all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs):
            return False
    return True


def _row(form: StepForm, leaves: list[Tensor], k: int) -> list[Tensor]:
    return [tensor.narrow(leaf.axis, k, 1) for leaf, tensor in zip(form.leaves, leaves, strict=True)]
