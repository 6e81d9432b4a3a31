"""Why no loop of a module could be rolled up: of all that was said on the way, what helps most.

Rules of this file: a refusal is told for the cause that further runs of the module show, and else for the way of
handing over the sequence that came nearest to a loop.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from torch import Tensor

from ..errors import ExportError, SignatureError, UnsupportedLayerError
from ..foreign.call_roles import left_at_none
from ..foreign.cut_inputs import CutInputs
from ..foreign.input_refusal import LOOP_AROUND, takes_something_else
from ..foreign.original_proof import gives_nan
from ..foreign.python_chance import draws_by_chance, gives_another
from .chance import UNWRITTEN
from .loop import NONE_FOUND, NoLoopError
from .sequence_call import (
    AnswerAlone,
    Sequences,
    failure,
    rows_apart,
    said_to_singles,
    takes_single_steps,
    weight_changed,
)

# How near a way came to a loop.
_DID_NOT_RUN, _RAN, _LOOP_SEEN = 0, 1, 2
_LARGE: Final = 30.0


class RefusedWays:
    """The ways of handing over the sequence that were given up, and what was found out of the module meanwhile.

    Args:
        call: the module; its own copy.

    Attributes:
        rows_apart: whether in one of the ways that ran the rows were apart.
    """

    def __init__(self, call: AnswerAlone) -> None:
        self._call = call
        self._complaints: list[tuple[tuple[bool, int], str]] = []
        self._gives_nan = self._draws = False
        self._changed = ""
        self.rows_apart = False

    def does_not_run(self, said: str) -> None:
        """Note what the module said to a sequence."""
        self._complaints.append(((False, _DID_NOT_RUN), said))

    def is_not_rolled(self, sequences: Sequences, steps: int, err: ExportError | NoLoopError) -> None:
        """Note why a way that runs was given up; further runs of so many steps look for the cause."""
        call, x = self._call, sequences.example(steps)
        self._gives_nan = self._gives_nan or _gives_nan(call, sequences.example(1))
        self._draws = self._draws or draws_by_chance(partial(call, x))
        self._changed = self._changed or weight_changed(call, x)
        meant = rows_apart(call, sequences, steps)
        self.rows_apart = self.rows_apart or meant
        seen = isinstance(err, NoLoopError) and str(err) != NONE_FOUND
        self._complaints.append(((meant, _LOOP_SEEN if seen else _RAN), str(err)))

    def error(self, ways: Sequence[Sequences]) -> ExportError:
        """Return what to raise where all these ways were given up."""
        name = type(self._call.module).__name__
        # What stands in memory that nothing was written into may be NaN.
        if self._gives_nan and UNWRITTEN not in (said for _, said in self._complaints):
            return SignatureError(gives_nan(self._call.module, 1))
        if self._draws:
            return SignatureError(gives_another(name))
        if self._changed:
            return SignatureError(
                f"{name}.forward changes {self._changed} in every call, so that the next gives something else, "
                f"expected the same each time; let it change a copy, as w = self.{self._changed}.clone()"
            )
        # What came nearest to a loop says most; of equals the first.
        (_, nearest), said = max(self._complaints, key=lambda one: one[0], default=((False, _RAN), NONE_FOUND))
        return UnsupportedLayerError(said if nearest else _no_sequence(said, ways, self._call))


def _gives_nan(call: AnswerAlone, sequence: Tensor) -> bool:
    """Whether the module runs and its answer holds NaN, which no other is equal to.

    Columns of x may be at home with some numbers alone, of which large ones of either sign tell.
    """
    factors = (1.0, _LARGE, -_LARGE) if isinstance(call.module, CutInputs) else (1.0,)
    drawn = [sequence if factor == 1.0 else factor * sequence for factor in factors]  # tokens are no floats
    return any(not failure(call, x) and bool(call.named(x)[0][1].isnan().any()) for x in drawn)


def _no_sequence(said: str, ways: Sequence[Sequences], call: AnswerAlone) -> str:
    """Say why no sequence could be run in any of the ways, and what helps."""
    roles = call.roles
    if roles.needs_state:
        return (
            f"forward needs {', '.join(roles.state)}, and a loop is looked for from zero state; give it the default "
            "None and make zeros in forward, or give a module around it whose forward(x) hands zeros over, as "
            "self.net(x, torch.zeros(x.size(0), H)); loop over the steps there if forward is one step"
        )
    needed = roles.lengths or (roles.mask if roles.needs_mask else None)
    if needed is not None and "missing" in said:
        return f"forward needs {needed}; take it out of the loop, padding is passed over without it"
    if to_singles := said_to_singles(call, ways):
        return (
            f"forward runs in float64 alone (in float32 it said {to_singles}); let it make its zeros in the "
            "dtype of x, as x.new_zeros(x.size(0), H) does"
        )
    if takes_single_steps(call, ways):
        return f"forward takes a single step, expected a whole sequence; {LOOP_AROUND}"
    remedy = takes_something_else(said, left_at_none(call.module, roles), roles.sequence)
    if any(sequences.are_numbers for sequences in ways):
        return f"forward takes no sequence [B, T, I] and no numbers [B, T], and said {said}; {remedy}say --input-dim"
    return (
        f"forward takes no sequence [B, T, I], and said {said}; {remedy}say another --input-dim, and 1 if it takes "
        "numbers [B, T]"
    )
