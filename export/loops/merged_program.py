"""The program for any number of steps, of the programs for two numbers of steps.

What is the same in both is kept. An integer that differs becomes a * T + b: 5 and 7 at T = 5 and 7 are T, 15 and 21
are 3 T. What differs otherwise has no such program. The two numbers of steps are sizes of no weight
(sequence_call.py), so that none of those is taken for T.

Rules of this file: plain data in, plain data out.
"""

from typing import Any, Final

from .loop import NoLoopError
from .program import Instruction, Program, Steps

_LENGTHS_DIFFER: Final = (
    "what it does beside its loop over time depends on how many steps there are; let an nn.LSTM, an nn.GRU or "
    "cellgate.model.LSTMLayer over your cell run the loop, and leave the rest as it is"
)


def merge(first: Program, second: Program, steps: tuple[int, int]) -> Program:
    """Return the program for any number of steps of those for two.

    Raises:
        NoLoopError: they differ in more than numbers of steps.
    """
    if len(first.cells) != len(second.cells) or first.result != second.result:
        raise NoLoopError(_LENGTHS_DIFFER)
    for a, b in zip(first.cells, second.cells, strict=True):
        if a != b:
            raise NoLoopError("a step of its loop over time depends on how many steps there are")
    if len(first.instructions) != len(second.instructions):
        raise NoLoopError(_LENGTHS_DIFFER)
    instructions = [
        Instruction(a.target, _merged(a.args, b.args, steps), _merged(a.kwargs, b.kwargs, steps))
        for a, b in zip(first.instructions, second.instructions, strict=True)
        if _same_target(a, b)
    ]
    return Program(instructions=instructions, result=first.result, cells=first.cells)


def _same_target(a: Instruction, b: Instruction) -> bool:
    if a.target != b.target:
        raise NoLoopError(_LENGTHS_DIFFER)
    return True


def _merged(a: Any, b: Any, steps: tuple[int, int]) -> Any:
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple(_merged(p, q, steps) for p, q in zip(a, b, strict=True))
    if type(a) is type(b) and a == b:
        return a
    if type(a) is int and type(b) is int:
        factor, rest = divmod(b - a, steps[1] - steps[0])
        if rest == 0:
            return Steps(factor, a - factor * steps[0])
    raise NoLoopError(_LENGTHS_DIFFER)
