"""Where a stream is: its id, the step that comes next, whether it has ended.

Rules of this file: pure; the plain and the async stream share it. A step counts requests, not time steps, and is taken
only when its answer has come: whatever fails before that is sent again under the same number.
"""

import operator
from typing import Any

from .errors import InputError


class StreamPosition:
    """A stream's place.

    Args:
        stream: its id, a whole number from 1 or a text that is not empty.
        step: the step that comes next: 0 begins, more goes on with what the server holds.

    Raises:
        InputError: no such id, or a step below 0.
    """

    def __init__(self, stream: int | str, step: int) -> None:
        number = _whole(stream)
        if not (stream if isinstance(stream, str) else number is not None and 0 < number < 2**64):
            raise InputError("stream", "a whole number from 1 to 2**64 - 1, or a text", repr(stream))
        place = _whole(step)
        if place is None or place < 0:
            raise InputError("step", "0 to begin, or the one after the last that was answered", repr(step))
        self.id = stream if number is None else number
        self.step = place
        self.has_ended = False

    def parameters(self, *, end: bool) -> dict[str, Any]:
        """Return the parameters of the next request.

        Raises:
            InputError: the stream has ended.

        >>> StreamPosition("a", 0).parameters(end=False)
        {'sequence_id': 'a', 'sequence_step': 0, 'sequence_start': True, 'sequence_end': False}
        """
        if self.has_ended:
            raise InputError(f"stream {self.id!r}", "it open", "that it has ended", "begin another one")
        return {
            "sequence_id": self.id,
            "sequence_step": self.step,
            "sequence_start": self.step == 0,
            "sequence_end": end,
        }

    def advance(self, *, end: bool) -> None:
        """The answer to the next request has come."""
        self.step += 1
        self.has_ended = end


def _whole(given: Any) -> int | None:
    """Return an integer of whatever kind, such as NumPy's, as Python's own; None: it is none."""
    try:
        return operator.index(given)
    except TypeError:
        return None
