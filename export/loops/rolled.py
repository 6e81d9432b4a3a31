"""A hand-written loop over time in any module, rolled up again and proved: recurrent layers in the place of the loop.

The module is captured at two numbers of steps with its loop written out (capture.py), the loop is found in both
(finder.py), and each gives a program (program_builder.py); what the two have in common is a program for any number of
steps (merged_program.py). That is made a module (rolled_module.py) and run beside the one it stands for (proof.py).
Where any output differs by more than rounding, there is no rolled module.

Rules of this file: it says in which order; the steps themselves are elsewhere, and which refusal is told too
(refused_ways.py).
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor, nn

from ..errors import ExportError
from ..foreign.answer import Answer, refuse_list_of_steps, refuse_other_numbers
from ..foreign.call_roles import Roles
from ..foreign.exchanged_layer import Carry
from .capture import Captured, capture, unroll
from .chance import refuse_chance
from .fed_back import mark_fed_back
from .finder import find_loops
from .loop import BY_NUMBER, ONE_SLOT_MORE, UNLIKE, NoLoopError
from .merged_program import merge
from .program import Program
from .program_builder import program_of
from .proof import prove
from .refused_ways import RefusedWays
from .rolled_module import make_module
from .sequence_call import AnswerAlone, Sequences, failure, free_steps, ways_found, ways_to_try
from .step_numbers import with_step_numbers
from .step_slots import keeps_the_start
from .unrolled import Unrolled
from .value import Reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Rolled:
    """A module whose loop was rolled up.

    Attributes:
        module: takes the sequence, laid out as the original takes it, and returns what the original answers.
        sequences: how it takes it.
        layers: how many recurrent layers the loop became.
        stays_on_cpu: whether the original wants a GPU, and runs without it only where it is kept on the CPU.
    """

    module: nn.Module
    sequences: Sequences
    layers: int
    stays_on_cpu: bool = False


def roll(
    module: nn.Module,
    as_written: nn.Module,
    roles: Roles,
    answer: Answer,
    carry: Carry,
    candidates: list[tuple[bool, int]],
    *,
    numbers: bool = False,
    searches: bool = False,
) -> Rolled:
    """Return ``module`` with its loop over time rolled up.

    Args:
        module: what the rolled one has to be equal to; not changed.
        as_written: the same, without a recurrent layer that is known: ``module``, or with its layers written out.
        roles: which argument is the sequence.
        answer: which of the tensors that it returns.
        carry: for the layers.
        candidates: (takes tokens, width) to try, in order.
        numbers: whether to try a step of one number, [B, T], where nothing else runs with its rows apart.
        searches: whether to look for a width that no layer tells, where nothing runs.

    Raises:
        UnsupportedLayerError: there is no loop, or none that could be proved; the message says which.
        AnswerError: what it returns holds no answer.
        SignatureError: it gives NaN for one step or another output each time, changes its weights in every call, runs
            for several widths of which no layer tells which, or gives an answer that is not float32.
    """
    call = AnswerAlone(copy.deepcopy(module).eval(), roles, answer)
    written = AnswerAlone(copy.deepcopy(as_written).eval(), roles, answer)
    refused = RefusedWays(call)
    ways = ways_to_try(candidates, numbers=numbers)
    if searches and all(failure(call, one.example(free_steps(module, one.width)[0])) for one in ways):
        ways = ways_found(call, ways) or ways
    for sequences in ways:
        if sequences.are_numbers and refused.rows_apart:
            break
        steps = free_steps(module, sequences.width)
        if failed := failure(call, sequences.example(steps[0])):
            refused.does_not_run(failed)
            continue
        written.stays_on_cpu = call.stays_on_cpu
        failure(written, sequences.example(steps[0]))  # what code does to its weights in a first run is done in both
        returned = [call.named(sequences.example(T)) for T in steps]
        refuse_list_of_steps(type(module).__name__, returned, steps)
        try:
            rolled, layers = _rolled(call, written, carry, sequences)
        except (NoLoopError, ExportError) as err:
            refused.is_not_rolled(sequences, steps[0], err)
            continue
        refuse_other_numbers(type(module).__name__, returned[0][0][1], returned[0])
        return Rolled(module=rolled, sequences=sequences, layers=layers, stays_on_cpu=call.stays_on_cpu)
    raise refused.error(ways)


def _rolled(call: AnswerAlone, written: AnswerAlone, carry: Carry, sequences: Sequences) -> tuple[nn.Module, int]:
    """Roll as it is written; else with loops over what a loop before gave in each reading; the first refusal says most.

    Where the module is captured in two forms, it is that of the second.
    """
    examples = [sequences.example(T) for T in free_steps(call, sequences.width)]
    forms = zip(*(capture(written, x, sequences.batch_axis) for x in examples), strict=False)
    refusals: list[NoLoopError] = []
    while captured := _next_form(forms, told=bool(refusals)):
        refusals = []
        for fed_back, reading in product((False, True), Reading):
            try:
                program, weights = _program_of_any_length(captured, reading, fed_back=fed_back)
                made = make_module(program, weights, carry, type(call.module).__name__)
                prove(call, made, sequences)
            except NoLoopError as refusal:
                refusals.append(refusal)
            else:
                return made, len(program.cells)
    raise refusals[0] from None


def _next_form(forms: Iterator[tuple[Captured, ...]], *, told: bool) -> tuple[Captured, ...] | None:
    """Return the next form in which the module is captured for both lengths, or None.

    Raises:
        ExportError: it cannot be captured, and no other form was refused (``told``) for a reason of its own.
    """
    try:
        return next(forms, None)
    except ExportError:
        if told:
            return None
        raise


def _program_of_any_length(
    captured: Sequence[Captured], reading: Reading, *, fed_back: bool
) -> tuple[Program, dict[str, Tensor]]:
    """Return the program for any T of what was captured for two, and the weights that it reads.

    ``fed_back`` says whether a decoder's loop is among those that are looked for.
    """
    programs, weights = [], {}
    for one in captured:
        unrolled = with_step_numbers(unroll(one, reading))
        refuse_chance(unrolled)
        if fed_back:
            mark_fed_back(unrolled, find_loops(unrolled))
        programs.append(_program(unrolled, one.batch_axis))
        weights = unrolled.weights
    return merge(programs[0], programs[1], (captured[0].steps, captured[1].steps)), weights


def _program(unrolled: Unrolled, batch_axis: int) -> Program:
    try:
        return program_of(unrolled, find_loops(unrolled), batch_axis)
    except NoLoopError as refusal:
        if keeps_the_start(unrolled):
            raise NoLoopError(ONE_SLOT_MORE) from None
        raise NoLoopError(BY_NUMBER) if unrolled.by_number and str(refusal) == UNLIKE else refusal from None
