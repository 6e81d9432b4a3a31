"""For how many steps a module is held against what was made of it: few, many, and those that its own code names.

A forward may do something else from some number of steps on: ``if x.size(1) > 50``, ``t % 100 == 0``, a table of 512
positions. A captured graph knows nothing of that, so numbers that stand in the code, or in the module, are tried too.

Rules of this file: pure, but for reading what code is made of; no code of a module runs here.
"""

import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Final

from torch import nn

_ALWAYS: Final = (7, 4, 2, 1, 40, 150, 1100)  # few first: they tell most, and quickly
_BEHIND_A_FRONT: Final = (3, 5, 6, 8, 41, 42, 43)  # beside them: what is left over by a stride
_LEAST_NAMED: Final = 3
_MOST_NAMED: Final = 2**13
_LARGEST_TABLE: Final = 2**14
_LEARNED_AXES: Final = 3
_MAKER: Final = "__init__"  # its numbers are sizes; what it keeps of them in the module is read there
_TOGETHER: Final = 3 * 2**12  # steps in all that are tried because they are named


def proof_steps(
    module: nn.Module, least: int = 1, most: int | None = None, *, shortened: bool = False
) -> tuple[int, ...]:
    """Return numbers of steps, each once: the usual ones, then each number that is named and the next one.

    Args:
        module: as it came.
        least: fewest steps that it takes; the usual ones begin there.
        most: most steps that it takes, which are tried too; None: any number.
        shortened: whether its recurrent layers see other steps than are given.
    """
    always = [count + least - 1 for count in (*_ALWAYS, *(_BEHIND_A_FRONT if shortened else ()))]
    named: list[int] = []
    spent = 0
    for number in sorted(_named_by(module)):
        steps = [count for count in (number, number + 1) if count not in {*always, *named} and count >= least]
        spent += sum(steps)
        if spent > _TOGETHER:
            break
        named += steps
    every = (*always, *named)
    return every if most is None else (*(steps for steps in every if steps < most), most)


def longest_table(module: nn.Module) -> int:
    """Return the largest size of a tensor that may be a table of positions; 0 where none may be.

    Such are buffers of what is not torch's, and parameters [1, N, I]: others are weights, and as many steps as a wide
    one has rows take seconds. Tables smaller than the usual numbers of steps are found without.
    """
    own = [child for child in module.modules() if not _is_known(type(child).__module__)]
    tables = [buffer for child in own for buffer in child.buffers(recurse=False)]
    learned = [parameter for child in own for parameter in child.parameters(recurse=False)]
    tables += [parameter for parameter in learned if parameter.dim() == _LEARNED_AXES and parameter.size(0) == 1]
    return max((size for table in tables for size in table.shape if size <= _LARGEST_TABLE), default=0)


def _named_by(module: nn.Module) -> set[int]:
    """Return the whole numbers in the code and the attributes of what is not torch's, and the sizes of its tables."""
    found: set[int] = set()
    read: set[CodeType] = set()
    for child in module.modules():
        if isinstance(child, nn.Embedding):
            found.add(child.num_embeddings)
        kinds = [kind for kind in type(child).__mro__ if not _is_known(kind.__module__)]
        for value in [
            *(vars(child).values() if kinds else ()),
            *(v for kind in kinds for n, v in vars(kind).items() if n != _MAKER),
        ]:
            found |= {value} if type(value) is int else set(_in_function(value, read))
    return {value for value in found if _LEAST_NAMED <= value <= _MOST_NAMED}


def _in_function(function: object, read: set[CodeType]) -> Iterator[int]:
    """Yield the numbers in a function, and in what it calls by a name of its file."""
    if not isinstance(function, FunctionType) or function.__code__ in read or _is_known(function.__module__):
        return
    yield from _in_code(function.__code__, read)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if type(value) is int:
            yield value
        else:
            yield from _in_function(value, read)


def _in_code(code: CodeType, read: set[CodeType]) -> Iterator[int]:
    read.add(code)
    for constant in code.co_consts:
        if type(constant) is int:
            yield constant
        elif isinstance(constant, CodeType):
            yield from _in_code(constant, read)


def _is_known(module: str | None) -> bool:
    """Whether code is Python's or torch's own."""
    return (module or "").partition(".")[0] in {"torch", *sys.stdlib_module_names}
