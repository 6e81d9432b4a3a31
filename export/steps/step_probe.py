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

from ..answer import named_tensors
from ..call_modes import CpuOnly
from ..errors import SignatureError
from ..input_width import loop_candidates
from ..own_attributes import attributes_kept
from .state_candidates import ROWS, state_candidates, state_makers
from .step_arguments import find_arguments, returned_names
from .step_call import StepCall, call
from .step_form import StateLeaf, StepArguments, StepForm, flat, template_of

_SEVERAL: Final = 4  # steps in the place of one
_MOST_ORDERED: Final = 6  # states whose order is looked at


@torch.no_grad()
def find_form(
    module: nn.Module, told: Mapping[str, str], input_dim: int | None, answer: str | None = None
) -> StepForm | None:
    """Return how the module takes one step, or None where it takes none; for the arguments see `stepped`.

    Raises:
        SignatureError: it gives its states back in another order than it takes them, takes one row alone, or lets rows
            change each other.
    """
    arguments = find_arguments(module, told, makes_states=bool(state_makers(module)))
    if arguments is None:
        return None
    widths = loop_candidates(module) if input_dim is None else [(False, input_dim), (True, input_dim)]
    candidates = {repr(one): one for one in state_candidates(module, len(arguments.state))}.values()
    near: StepForm | None = None
    for one_row in (False, True):
        for state in candidates:
            for takes_tokens, width, axes in _inputs(widths, state.leaves if input_dim is None else ()):
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
                found = _tried(module, form)
                # What draws by chance is refused for that, where any network is.
                if found is not None and (_rows_stay_apart(module, found) or _draws(module, found)):
                    _check_order(module, found)
                    return found
                if found is not None and not one_row:
                    raise SignatureError(_of_rows(type(module).__name__, found))
                near = near or (None if state.guessed else found)
    if near is not None:
        raise SignatureError(_of_rows(type(module).__name__, near))
    return None


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


def draw_step(form: StepForm, rows: int, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Return a random step [B, I] or [B] and a random state."""
    generator = torch.Generator().manual_seed(seed)
    if form.takes_tokens:
        x = torch.randint(0, form.width, (rows,), generator=generator)
    else:
        x = torch.randn(rows, form.width, generator=generator)
    return x, [torch.randn(leaf.shape(rows), generator=generator) * 0.5 for leaf in form.leaves]


def _tried(module: nn.Module, form: StepForm) -> StepForm | None:
    """Return the form with what comes back; None where the module does not run so, or takes whole sequences."""
    found = None
    for rows in (1,) if form.one_row else ROWS:
        result = _run(module, form, *draw_step(form, rows, seed=1))
        said = None if result is None else _read(module, form, result, rows)
        if said is None or (found is not None and said != found):
            return None
        found = said
    if found is None or not all(_goes_into_something(module, found, number) for number in range(len(found.leaves))):
        return None
    return None if _takes_several(module, found) else found


def _run(module: nn.Module, form: StepForm, x: Tensor, leaves: list[Tensor]) -> Any:
    try:
        with CpuOnly(), attributes_kept(module):
            result = call(module, form, x, leaves)
    except Exception:  # noqa: BLE001 - a stranger's forward may refuse a wrong guess in any way it likes
        return None
    return result if all(isinstance(part, Tensor) for part in flat(result)) else None


def _read(module: nn.Module, form: StepForm, result: Any, rows: int) -> StepForm | None:
    """Find the states in what came back, by names where the code tells them, by shapes and places else."""
    given = list(flat(result))
    wanted = [leaf.shape(rows) for leaf in form.leaves]
    for states in _placements(module, form.arguments, len(given), len(wanted)):
        if [tuple(given[number].shape) for number in states] != wanted:
            continue
        names = tuple(name for name, _ in named_tensors(result))
        others = [number for number in range(len(given)) if number not in states]
        answer = others[0] if others else states[0]
        if form.told is not None:
            places = [place for place, _ in named_tensors(result, by_place=True)]
            answer = next((number for number in range(len(given)) if form.told in (names[number], places[number])), -1)
        if answer < 0:
            continue
        width = _width_of(tuple(given[answer].shape), rows)
        if width is not None and given[answer].is_floating_point():
            template = template_of(result)
            return replace(form, result=template, answer=answer, states=states, output_dim=width, names=names)
    return None


def _placements(module: nn.Module, arguments: StepArguments, given: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield where in the result the states may be: by name, behind the answer, all that there is, or further back."""
    names = returned_names(module)
    if len(names) == given and count == len(arguments.state) and set(arguments.state) <= set(names):
        yield tuple(names.index(name) for name in arguments.state)
    if given == count:
        yield tuple(range(count))
    for first in [*range(1, given - count + 1), *([0] if given > count else [])]:
        yield tuple(range(first, first + count))


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
        result = _run(module, several, more, leaves)
        given = [] if result is None else [tuple(tensor.shape) for tensor in flat(result)]
        if len(given) > max(form.states) and all(
            given[number] == leaf.shape(rows) for number, leaf in zip(form.states, form.leaves, strict=True)
        ):
            return True
    return False


def _check_order(module: nn.Module, form: StepForm) -> None:
    """Refuse where another order of the states would let each depend on the one that it takes the place of.

    Raises:
        SignatureError: h1, c1, h2, c2 come back as h1, h2, c1, c2, or alike.
    """
    count = len(form.leaves)
    if len(form.arguments.state) == 1 or count > _MOST_ORDERED:  # what is one thing is handed on as it is
        return
    reads = [[_reads(module, form, old, new) for old in range(count)] for new in range(count)]
    if all(reads[k][k] for k in range(count)):
        return
    for order in permutations(range(count)):
        if all(form.leaves[k] == form.leaves[order[k]] and reads[order[k]][k] for k in range(count)):
            names = ", ".join(form.arguments.state)
            raise SignatureError(
                f"{type(module).__name__}.forward takes the states {names} and gives them back in another order, "
                f"expected the same; let it return the answer and then {names}, each under the name of its argument"
            )


def _reads(module: nn.Module, form: StepForm, old: int, new: int) -> bool:
    """Whether a state that is given back changes with one that was given."""
    rows = 1 if form.one_row else ROWS[0]
    x, leaves = draw_step(form, rows, seed=3)
    changed = [leaf + 1.0 if k == old else leaf for k, leaf in enumerate(leaves)]
    results = [list(flat(_run(module, form, x, state)))[form.states[new]] for state in (leaves, changed)]
    return not torch.equal(*results)


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


def _draws(module: nn.Module, form: StepForm) -> bool:
    """Whether the module gives something else for the same step and state."""
    x, leaves = draw_step(form, 1, seed=6)
    pairs = zip(flat(_run(module, form, x, leaves)), flat(_run(module, form, x, leaves)), strict=True)
    return any(not torch.equal(one, two) for one, two in pairs)


def _row(form: StepForm, leaves: list[Tensor], k: int) -> list[Tensor]:
    return [tensor.narrow(leaf.axis, k, 1) for leaf, tensor in zip(form.leaves, leaves, strict=True)]


def _goes_into_something(module: nn.Module, form: StepForm, number: int) -> bool:
    x, leaves = draw_step(form, 1, seed=5)
    changed = [leaf + 1.0 if k == number else leaf for k, leaf in enumerate(leaves)]
    pairs = zip(flat(_run(module, form, x, leaves)), flat(_run(module, form, x, changed)), strict=True)
    return any(not torch.equal(one, two) for one, two in pairs)
