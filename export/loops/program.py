"""A network whose loop is rolled up, as a list of instructions: before the loop, recurrent layers, and after it.

Rules of this file: a program is plain data, so that the programs of two lengths can be held against each other.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from .value import INPUT, Ref

CELL: Final = "cell"
STEPS_AT: Final = 2
"""The instruction of a program that gives T: the sequence is instruction 0, B is 1."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A number that depends on how many steps there are: a * T + b."""

    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operation of a program; Refs in it are to those before it."""

    target: Any
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()


@dataclass(kw_only=True, slots=True)
class Cell:
    """One group of carried values as a cell: (x [B, I], states [B, W]) -> (output [B, O], new states).

    Attributes:
        instructions: the first are INPUT, for x and each state.
        results: output and new states.
    """

    reverse: bool
    input_dim: int
    widths: tuple[int, ...]
    output_dim: int
    instructions: list[Instruction] = field(default_factory=list)
    results: tuple[Ref, ...] = ()


@dataclass(kw_only=True, slots=True)
class Program:
    """Instructions from the sequence to the output; CELL calls a layer with (sequence [B, T, I], initial states)."""

    instructions: list[Instruction]
    result: Ref
    cells: list[Cell]


class Code:
    """Instructions as they are written, equal ones once."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self._known: dict[Instruction, Ref] = {}

    def add(self, target: Any, *args: Any, kwargs: tuple[tuple[str, Any], ...] = ()) -> Ref:
        """Return the number of an instruction, which may be there already."""
        instruction = Instruction(target, args, kwargs)
        if instruction not in self._known or target == INPUT:
            self._known[instruction] = Ref(len(self.instructions))
            self.instructions.append(instruction)
        return self._known[instruction]
