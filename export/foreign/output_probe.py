"""How a foreign module lays out its answer, found out on runs: axes, width, and whether rows and runs stay apart.

Rules of this file: what cannot be served is refused with what would help; nothing is guessed that a run can show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...bundle.axes import StepAxis
from ..errors import SignatureError
from .answer import Named, refuse_list_of_steps, refuse_other_numbers, refuse_widths_of_steps, say_others
from .answered_steps import find_answered_steps, per_step_of_fewer
from .call_layout import output_layouts
from .input_trial import PROBE_ROWS, PROBES, example
from .python_chance import draws_by_chance, gives_another

if TYPE_CHECKING:
    from .network import ForeignNetwork


@torch.no_grad()
def find_output(network: ForeignNetwork) -> None:
    """Find which layers run, that the module draws nothing by chance, and how it lays out y.

    Raises:
        SignatureError: no layout fits, rows change each other, or y is not what it was in the run before.
        AnswerError: it returns a list with a tensor for each step, or tensors that cannot stand side by side.
    """
    returned = _returned_by_runs_that_tell(network)
    given, answer = network.probe_steps, returned[0][0][1]
    refuse_list_of_steps(_name(network), returned, given)
    if network.own_answer.is_several:
        refuse_widths_of_steps(_name(network), _columns(network))
    others = say_others(returned[0])
    refuse_other_numbers(_name(network), answer, returned[0])
    network.call(example(network, given[0]))  # the last run may have had too many steps for it
    network.stacks = {n: tensors for n, tensors in network.stacks.items() if n in network.carry.calls}
    _check_state_is_used(network)
    _check_same_again(network, example(network, given[0]))
    _choose_layout(network, _shapes(returned), others)


def _name(network: ForeignNetwork) -> str:
    return type(network.module).__name__


def _returned_by_runs_that_tell(network: ForeignNetwork) -> list[Named]:
    """Return what the module returns for both probes; for more steps where its answer tells more for those alone.

    Of five steps and of seven, y[:, ::4] has two, and y[:, 10:] none; y[:, -12:] has all of them, and of more twelve.
    """
    found = _returned(network, network.probe_steps)
    shapes = _shapes(found)
    for pair in PROBES:
        if pair[0] <= network.probe_steps[0]:
            continue
        try:
            further = _returned(network, pair)
        except Exception:  # noqa: BLE001 - a stranger's forward may fail in any way
            break
        one, other = _shapes(further)
        if shapes[0] != shapes[1] and any(sizes == pair for sizes in zip(one, other, strict=False)):
            break
        if (one != other) == (shapes[0] == shapes[1]) and 0 not in one:
            network.probe_steps = pair
            return further
        if one == other == shapes[0] and 0 not in one:
            break
    return found


def _returned(network: ForeignNetwork, steps: tuple[int, int]) -> list[Named]:
    found = []
    for count in steps:
        network.call(example(network, count))
        found.append(network.returned)
    return found


def _columns(network: ForeignNetwork) -> list[dict[str, int]]:
    found = []
    for steps in network.probe_steps:
        network.call(example(network, steps))
        found.append(network.answer_columns)
    return found


def _shapes(returned: list[Named]) -> list[list[int]]:
    return [list(named[0][1].shape) for named in returned]


def _check_state_is_used(network: ForeignNetwork) -> None:
    if network.roles.needs_state and not network.stacks:
        needed = ", ".join(network.roles.state)
        raise SignatureError(
            f"{_name(network)}.forward needs {needed} and runs no recurrent layer, expected one to give it to; take "
            f"{needed} out, or give it the default None and make zeros in forward"
        )


def _check_same_again(network: ForeignNetwork, x: Tensor) -> None:
    again = torch.allclose(network.call(x), network.call(x), rtol=1e-5, atol=1e-5, equal_nan=True)
    if not again or draws_by_chance(lambda: network.call(x)):
        raise SignatureError(gives_another(_name(network)))


def _choose_layout(network: ForeignNetwork, shapes: list[list[int]], others: str) -> None:
    """Take the first layout that fits the shapes and keeps rows apart."""
    taken = network.input_layout
    network.answer_axis = find_answered_steps(network, shapes)
    given = [network.answer_axis.size(steps) for steps in network.probe_steps]
    rows = 1 if taken.one_at_a_time else PROBE_ROWS
    fitting = output_layouts(taken, shapes, given, rows)
    for layout in fitting:
        network.output_layout = layout
        if taken.one_at_a_time or _rows_stay_apart(network):
            return
    if fitting:
        raise SignatureError(
            f"{_name(network)}.forward lets a row change the output of another, expected each row by itself; "
            "look for a view() or reshape() that mixes the batch with another axis, and for a mean over the batch"
            f"{_batch_norm(network)}"
        )
    network.answer_axis = StepAxis()
    raise SignatureError(_no_layout(network, shapes, rows) + others)


def _batch_norm(network: ForeignNetwork) -> str:
    """Name the first norm that takes its mean over the batch, in evaluation too; say nothing where there is none."""
    for path, child in network.module.named_modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is None:  # noqa: SLF001 - its only name
            return f", as that of {path}, which has no running statistics (track_running_stats=False)"
    return ""


def _rows_stay_apart(network: ForeignNetwork) -> bool:
    x = example(network, network.probe_steps[1])
    other = x.clone()
    other[1] = example(network, network.probe_steps[1], seed=1)[1]
    one, two = network(x)[0], network(other)[0]
    return all(
        torch.allclose(one[row], two[row], rtol=1e-4, atol=1e-5, equal_nan=True)
        for row in range(PROBE_ROWS)
        if row != 1
    )


def _no_layout(network: ForeignNetwork, shapes: list[list[int]], rows: int) -> str:
    """Say why the shapes are those of no answer, with a remedy."""
    name, given = _name(network), network.probe_steps
    fewer = per_step_of_fewer(shapes, given)
    if fewer is not None:
        return (
            f"{name}.forward shortens the sequence and answers for {fewer} steps where {given[1]} were given, expected "
            "[B, T', O] with a T' that strides and pools leave, [B, T, O] or [B, O]; let it return one answer, such as "
            "y[:, -1] or y.mean(1)"
        )
    remedy = "; end its forward with .flatten(1)" if shapes[0] == shapes[1] and shapes[0][:1] == [rows] else ""
    if shapes[0] == shapes[1] and shapes[0][1:2] == [rows]:
        remedy = "; end its forward with .transpose(0, 1)"
    if network.own_answer.is_several:
        remedy = "; where a head gives one number, take its .squeeze(-1) out"
    whom, wanted = f"{PROBE_ROWS} rows", "[B, T, O] or [B, O]"
    if network.input_layout.one_at_a_time:
        whom, wanted = "a sequence", "[T, O] or [O]"
    return (
        f"{name}.forward returns shape {shapes[0]} for {whom} of {given[0]} steps and {shapes[1]} for "
        f"{given[1]}, expected {wanted} with one to three sizes for O, the same for every length{remedy}"
    )
