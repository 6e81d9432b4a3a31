"""A module called with the sequence alone, and sequences to call it with.

Rules of this file: a stranger's code runs here, and whatever it raises is an answer.
"""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..errors import AnswerError
from ..foreign.answer import Answer, Named
from ..foreign.call_layout import InputLayout
from ..foreign.call_modes import CpuOnly, wants_cuda
from ..foreign.call_roles import Roles
from ..foreign.input_search import number_of_tokens, only_width
from ..foreign.own_attributes import attributes_kept

ROWS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequences:
    """One way in which a module may take its sequences.

    Attributes:
        takes_tokens: whether they are int64.
        width: features of a step, or the number of tokens.
        layout: "BTI" or "TBI"; of tokens, and of numbers without an axis for features, "BT" or "TB".
    """

    takes_tokens: bool
    width: int
    layout: InputLayout

    @property
    def batch_axis(self) -> int:
        """The axis of the rows; the other leading one is time."""
        return self.layout.axes.index("B")

    @property
    def are_numbers(self) -> bool:
        """Whether a step is one number."""
        return not self.takes_tokens and "I" not in self.layout.axes

    def example(self, steps: int, *, seed: int = 0, rows: int = ROWS) -> Tensor:
        """Return a random sequence."""
        generator = torch.Generator().manual_seed(seed)
        sizes = {"B": rows, "T": steps, "I": self.width}
        shape = [sizes[axis] for axis in self.layout.axes]
        if self.takes_tokens:
            return torch.randint(0, self.width, shape, generator=generator)
        return torch.randn(shape, generator=generator)


def ways_to_try(candidates: list[tuple[bool, int]], *, numbers: bool) -> list[Sequences]:
    """Return each (takes tokens, width) in order, rows before steps and steps before rows, and then ``numbers``."""
    every = [
        (takes_tokens, width, ("BT", "TB") if takes_tokens else ("BTI", "TBI")) for takes_tokens, width in candidates
    ]
    every += [(False, 1, ("BT", "TB"))] if numbers and candidates else []
    return [
        Sequences(takes_tokens=takes_tokens, width=width, layout=InputLayout(axes))
        for takes_tokens, width, layouts in every
        for axes in layouts
    ]


class AnswerAlone(nn.Module):
    """A module behind a call with the sequence alone; gives the answer out of what it returns.

    Attributes:
        stays_on_cpu: whether what its code sends to a GPU stays on the CPU.
    """

    def __init__(self, module: nn.Module, roles: Roles, answer: Answer) -> None:
        super().__init__()
        self.module = module
        self.roles = roles
        self.answer = answer
        self.stays_on_cpu = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer."""
        return self.answer.of(self._result(x), type(self.module).__name__)[0][1]

    def named(self, x: Tensor) -> Named:
        """Return everything that the module returns, the answer first."""
        with torch.no_grad():
            return self.answer.of(self._result(x), type(self.module).__name__)

    def _result(self, x: Tensor) -> Any:
        with CpuOnly() if self.stays_on_cpu else nullcontext(), attributes_kept(self.module):
            return self.roles.call(self.module, {self.roles.sequence: x})


def free_steps(module: nn.Module, width: int) -> tuple[int, int]:
    """Return two numbers of steps T where neither T nor T + 1 is another size in the module."""
    taken = {size for tensor in (*module.parameters(), *module.buffers()) for size in tensor.shape} | {width, ROWS}
    taken |= {size - 1 for size in taken}
    taken |= {size // k for size in taken for k in (2, 3, 4) if size % k == 0}
    free = [T for T in range(5, 200) if T not in taken]
    return free[0], free[1]


def failure(call: AnswerAlone, example: Tensor) -> str:
    """Return what the module says to an example, or the empty string where it takes it.

    Raises:
        AnswerError: it takes it, and returns what no other sequence would change.
    """
    try:
        with torch.no_grad():
            call(example)
    except AnswerError:
        raise
    except Exception as err:  # noqa: BLE001 - a stranger's forward may refuse a wrong guess in any way it likes
        if wants_cuda(err) and not call.stays_on_cpu:
            call.stays_on_cpu = True
            return failure(call, example)
        lines = str(err).strip().split("\n")
        return f"{type(err).__name__}: {lines[0][:200]}"
    return ""


def takes_single_steps(call: AnswerAlone, ways: Sequence[Sequences]) -> bool:
    """Whether the module takes a step [B, I], or tokens [B], in one of the ways; numbers [B, T] may be more."""
    for one in ways:
        step = one.example(1).select(1 - one.batch_axis, 0)
        if one.are_numbers or failure(call, step):
            continue
        if one.takes_tokens or failure(call, torch.cat([step, step[:, :1]], 1)):
            return True
    return False


def weight_changed(call: AnswerAlone, example: Tensor) -> str:
    """Return the name of a weight or buffer that every further run changes, so that the next gives something else."""
    before = {name: tensor.clone() for name, tensor in call.module.state_dict().items()}
    failure(call, example)
    after = call.module.state_dict()
    return next((n for n, was in before.items() if not torch.equal(was, after[n]) and not was.isnan().any()), "")


def ways_found(call: AnswerAlone, tried: Sequence[Sequences]) -> list[Sequences]:
    """Return the way of a width that no layer tells, where it is the only one that runs; else nothing.

    Raises:
        SignatureError: several widths run.
    """

    def way(width: int, axes: str, *, takes_tokens: bool = False) -> Sequences:
        return Sequences(takes_tokens=takes_tokens, width=width, layout=InputLayout(axes))

    def runs(one: Sequences) -> bool:
        return not any(failure(call, one.example(steps)) for steps in free_steps(call, one.width))

    name, widths = type(call.module).__name__, list(dict.fromkeys(one.width for one in tried if not one.takes_tokens))
    for axes in ("BTI", "TBI"):
        width = only_width(lambda count, axes=axes: runs(way(count, axes)), name)  # type: ignore[misc]
        if width is not None:
            return [one for other in ("BTI", "TBI") if runs(one := way(width, other))]
    for axes in ("BT", "TB"):
        tokens = number_of_tokens(lambda count, axes=axes: runs(way(count, axes, takes_tokens=True)), widths)  # type: ignore[misc]
        if tokens is not None:
            return [way(tokens, axes, takes_tokens=True)]
    return []


def rows_apart(call: AnswerAlone, sequences: Sequences, steps: int) -> bool:
    """Whether the answer has one axis that grows with the rows, and a row changes nothing in it but its own place."""
    x, other = (sequences.example(steps, seed=seed) for seed in (0, 1))
    changed = x.clone()
    changed.select(sequences.batch_axis, 1).copy_(other.select(sequences.batch_axis, 1))
    try:
        with torch.no_grad():
            one, two, more = call(x), call(changed), call(sequences.example(steps, rows=ROWS + 1))
    except Exception:  # noqa: BLE001 - it may refuse another number of rows in any way it likes
        return False
    if one.dim() != more.dim():
        return False
    grown = [axis for axis, (n, m) in enumerate(zip(one.shape, more.shape, strict=True)) if n != m]
    if [one.shape[axis] for axis in grown] != [ROWS]:
        return False
    kept = torch.tensor([row for row in range(ROWS) if row != 1])
    a, b = (y.index_select(grown[0], kept) for y in (one, two))
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def said_to_singles(call: AnswerAlone, ways: Sequence[Sequences]) -> str:
    """Return what a module says to float32 that runs in float64, which its code makes for itself; else nothing."""
    twin = copy.deepcopy(call).double()
    for sequences in ways:
        x = sequences.example(free_steps(call, sequences.width)[0])
        if x.is_floating_point() and not failure(twin, x.double()):
            return failure(call, x)
    return ""
