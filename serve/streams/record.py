"""What is kept of a stream: its key, and the record that a store holds.

Rules of this file: records only. The arrays of a record are never written to.
"""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ..arrays import Array
from ..engine.work import Answer

END: Final = "end"
EXPIRED: Final = "expired"
CLOSED: Final = "closed"
REASONS: Final = (END, EXPIRED, CLOSED)  # by the client's last request, by idleness, by an operator
DAMAGED: Final = "damaged"  # what a store holds is no record; it is never written


class StreamKey(NamedTuple):
    """Names one stream of one model; the number 7 and the text "7" are two."""

    model: str
    id: int | str

    def text(self) -> str:
        """Return the canonical form, which `key_of_text` reads back. A model's name has no colon."""
        return f"{self.model}:{'n' if isinstance(self.id, int) else 's'}:{self.id}"


def key_of_text(text: str) -> StreamKey:
    """Return the key whose canonical form this is.

    Raises:
        ValueError: it is none.
    """
    model, kind, name = text.split(":", 2)
    if kind not in ("n", "s") or not model or not name:
        raise ValueError(f"stream key: expected MODEL:n:NUMBER or MODEL:s:TEXT, found {text!r}")
    key = StreamKey(model, int(name) if kind == "n" else name)
    if key.text() != text:
        raise ValueError(f"stream key: expected {key.text()!r}, found {text!r}")
    return key


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamRecord:
    """A stream as it is after its last applied request.

    Attributes:
        revision: changes with every write, and never comes back for this key: what compare-and-set compares.
        step: of the last applied request; all are counted, whether they said their step or not.
        digest: of the bundle that it runs on, 64 hexadecimal digits.
        rows: B, constant.
        states: one for each of the signature's, with "B" of B; empty where the stream has ended.
        payload_hash: of the last request, 32 bytes; None where it did not say its step, and so cannot be repeated.
        answer: to the last request; None likewise.
        ended: None while it lives, else one of `REASONS`, or `DAMAGED`.
        touched_s: when it was last applied, on the clock of the store.
    """

    revision: int
    step: int
    digest: str
    rows: int
    states: tuple[Array, ...]
    payload_hash: bytes | None
    answer: Answer | None
    ended: str | None
    touched_s: float

    @property
    def state_bytes(self) -> int:
        """Bytes of the states."""
        return sum(state.nbytes for state in self.states)

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        answer = () if self.answer is None else self.answer.values()
        return self.state_bytes + sum(array.nbytes for array in answer)

    def tombstone(self, reason: str) -> "StreamRecord":
        """Return what is left of it when it does not live on: no state, no answer."""
        return replace(self, states=(), payload_hash=None, answer=None, ended=reason)

    def as_of(self, now_s: float, idle_s: float) -> "StreamRecord":
        """Return it as it is now: expired, where it has lived idly for so long."""
        if self.ended is None and now_s - self.touched_s >= idle_s:
            return self.tombstone(EXPIRED)
        return self


def damaged_record(revision: int) -> StreamRecord:
    """Return what stands for a record that cannot be read: its revision is all that is known, so that it can go."""
    return StreamRecord(
        revision=revision,
        step=0,
        digest="0" * 64,
        rows=1,
        states=(),
        payload_hash=None,
        answer=None,
        ended=DAMAGED,
        touched_s=0.0,
    )
