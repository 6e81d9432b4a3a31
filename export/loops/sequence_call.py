"""A module called with the sequence alone, and sequences to call it with.

Rules of this file: a stranger's code runs here, and whatever it raises is an answer.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from ..answer import Answer, Named
from ..call_roles import Roles
from ..errors import AnswerError

ROWS: Final = 3


class AnswerAlone(nn.Module):
    """A module behind a call with the sequence alone; gives the answer out of what it returns."""

    def __init__(self, module: nn.Module, roles: Roles, answer: Answer) -> None:
        super().__init__()
        self.module = module
        self.roles = roles
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer."""
        return self.answer.of(self._result(x), type(self.module).__name__)[0][1]

    def named(self, x: Tensor) -> Named:
        """Return everything that the module returns, the answer first."""
        with torch.no_grad():
            return self.answer.of(self._result(x), type(self.module).__name__)

    def _result(self, x: Tensor) -> Any:
        return self.roles.call(self.module, {self.roles.sequence: x})


def free_steps(module: nn.Module, width: int) -> tuple[int, int]:
    """Return two numbers of steps T where neither T nor T + 1 is another size in the module."""
    taken = {size for tensor in (*module.parameters(), *module.buffers()) for size in tensor.shape} | {width, ROWS}
    taken |= {size - 1 for size in taken}
    taken |= {size // k for size in taken for k in (2, 3, 4) if size % k == 0}
    free = [T for T in range(5, 200) if T not in taken]
    return free[0], free[1]


def example(steps: int, width: int, batch_axis: int, *, takes_tokens: bool, seed: int = 0, rows: int = ROWS) -> Tensor:
    """Return a random sequence, [B, T, I] or [T, B, I], or tokens [B, T] or [T, B]."""
    generator = torch.Generator().manual_seed(seed)
    leading = (rows, steps) if batch_axis == 0 else (steps, rows)
    if takes_tokens:
        return torch.randint(0, width, leading, generator=generator)
    return torch.randn(*leading, width, generator=generator)


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
        lines = str(err).strip().split("\n")
        return f"{type(err).__name__}: {lines[0][:200]}"
    return ""
