"""How a module that takes one step is called: its arguments, their shapes, and what it gives back, as data.

A tree is a tensor, or a tuple or list of trees; in a template each tensor is a number, in order.

Rules of this file: plain data and what walks through it; how a module is called is found out in step_probe.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StateLeaf:
    """The shape of one state tensor: (*before, B, *after).

    Attributes:
        before: sizes before the batch, as the number of layers.
        after: sizes behind it, mostly the width alone.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def axis(self) -> int:
        """Where the batch is."""
        return len(self.before)

    @property
    def width(self) -> int:
        """Numbers for each row in each part."""
        return prod(self.after)

    def shape(self, rows: int) -> tuple[int, ...]:
        """Return the shape for so many rows."""
        return (*self.before, rows, *self.after)

    def to_parts(self, tensor: Tensor) -> list[Tensor]:
        """Return matrices [B, width], one for each layer."""
        rows = tensor.shape[self.axis]
        return list(tensor.reshape(prod(self.before), rows, self.width).unbind(0))

    def from_parts(self, parts: Sequence[Tensor]) -> Tensor:
        """Undo ``to_parts``."""
        return torch.stack(list(parts), 0).reshape(self.shape(parts[0].size(0)))

    @property
    def parts(self) -> int:
        """How many matrices ``to_parts`` gives."""
        return prod(self.before)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepArguments:
    """Which argument of forward plays which part.

    Attributes:
        sequence: the step of x or tokens.
        state: what is given back, in the order in which it is.
        positional: arguments that may not be named, in order.
    """

    sequence: str
    state: tuple[str, ...]
    positional: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StepForm:
    """How a module takes a step.

    Attributes:
        arguments: of forward.
        takes_tokens: whether a step is int64 [B].
        width: I, or the number of tokens.
        axes: of a step: "BI", "1BI" or "B1I", of tokens "B", "1B" or "B1".
        one_row: whether the module takes a batch of one, and more rows only with other sizes in its views
            (widened_views.py).
        template: the state arguments, a tree each.
        leaves: the shape of each state tensor in the template.
        result: the tensors that forward returns, a template; tuples for dicts and dataclasses.
        answer: the number of the answer in the result.
        states: for each leaf its number in the result.
        output_dim: O.
        names: of the tensors in the result, as for --answer.
        in_dict: whether the result is a dict of tensors alone, so that names are its keys.
        told: the name of the answer, where another one than the first is wanted.
        in_doubt: whether other tensors of the result may as well be the states.
    """

    arguments: StepArguments
    takes_tokens: bool
    width: int
    axes: str
    one_row: bool
    template: tuple[Any, ...]
    leaves: tuple[StateLeaf, ...]
    result: Any = 0
    answer: int = 0
    states: tuple[int, ...] = ()
    output_dim: int = 0
    names: tuple[str, ...] = ()
    in_dict: bool = False
    told: str | None = None
    in_doubt: bool = False

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the tensors that are neither answer nor state."""
        taken = {self.answer, *self.states}
        return tuple(name for number, name in enumerate(self.names) if number not in taken)

    def hand_over(self, x: Tensor) -> Tensor:
        """Return a step x [B, I], or tokens [B], as the module takes it."""
        place = self.axes.find("1")
        return x if place < 0 else x.unsqueeze(place)

    def keywords(self, x: Tensor, leaves: Sequence[Tensor]) -> dict[str, Any]:
        """Return the arguments of forward for a step and a state."""
        trees = filled(self.template, leaves)
        return {self.arguments.sequence: self.hand_over(x), **dict(zip(self.arguments.state, trees, strict=True))}

    def zeros(self, rows: int, dtype: torch.dtype) -> list[Tensor]:
        """Return the state to begin with."""
        return [torch.zeros(leaf.shape(rows), dtype=dtype) for leaf in self.leaves]


def flat(tree: Any) -> Iterator[Any]:
    """Yield what is in a tree, in order."""
    if isinstance(tree, tuple | list):
        for part in tree:
            yield from flat(part)
    else:
        yield tree


def filled(template: Any, leaves: Sequence[Any]) -> Any:
    """Return the tree of a template."""
    if isinstance(template, tuple):
        return tuple(filled(part, leaves) for part in template)
    if isinstance(template, list):
        return [filled(part, leaves) for part in template]
    return leaves[template]


def template_of(tree: Any) -> Any:
    """Return the template of a tree: what is in it, numbered."""
    numbers = iter(range(sum(1 for _ in flat(tree))))

    def numbered(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(numbered(inner) for inner in part)
        return [numbered(inner) for inner in part] if isinstance(part, list) else next(numbers)

    return numbered(tree)
