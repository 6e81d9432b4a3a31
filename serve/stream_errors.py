"""What is refused of a stream, or goes wrong with it: one that is not there, a step out of its turn, a full store.

Rules of this file: those of `errors`: a class builds the message from facts, and it names the thing, expected, found
and the remedy. What a program needs for going on with a stream is a fact beside the message.
"""

from typing import ClassVar

from .errors import ServeError, shown


def _words(stream: int | str | None) -> tuple[str, str, str]:
    """Return the parameter that names a stream, what to call the stream, and how another one begins."""
    if stream is None:
        return "sequence_state", "it", "with an empty one"
    return "sequence_id", shown(stream), "under another id"


class UnknownStream(ServeError):  # noqa: N818
    """Nothing is known of the stream: it never began, or ended so long ago that its traces are gone."""

    status = 404
    code = "unknown_stream"

    def __init__(self, stream: object) -> None:
        remedy = "send sequence_start, and the stream from its beginning"
        super().__init__(f"sequence_id: expected a stream that has begun, found none of {shown(stream)}; {remedy}")


class StreamEnded(ServeError):  # noqa: N818
    """The stream has ended; nothing can be added to it."""

    status = 410
    code = "stream_ended"

    def __init__(self, stream: object) -> None:
        remedy = "take another id for another stream"
        super().__init__(f"sequence_id: expected a live stream, found that {shown(stream)} has ended; {remedy}")


class StreamExpired(ServeError):  # noqa: N818
    """Nobody sent anything for the stream for too long, and its state is gone. None is one that its client carries."""

    status = 410
    code = "stream_expired"

    def __init__(self, stream: int | str | None) -> None:
        what, whose, how = _words(stream)
        remedy = f"begin again {how}, or have the server wait longer: --stream-idle-s"
        super().__init__(f"{what}: expected a live stream, found that {whose} was idle for too long; {remedy}")


class StreamDamaged(ServeError):  # noqa: N818
    """What the store holds of the stream cannot be gone on with."""

    status = 410
    code = "stream_damaged"

    def __init__(self, stream: object, expected: str = "its record", found: str = "it damaged") -> None:
        remedy = "end the stream with DELETE, or start it again without sequence_step"
        super().__init__(f"store of streams: of {shown(stream)} expected {expected}, found {found}; {remedy}")


class StreamExists(ServeError):  # noqa: N818
    """A start with a step number found its stream alive."""

    status = 409
    code = "stream_exists"

    def __init__(self, stream: object, expected_step: int) -> None:
        self.facts = {"expected_step": expected_step}
        remedy = "go on with the expected step, or take another id"
        super().__init__(f"sequence_start: expected no stream {shown(stream)}, found a live one; {remedy}")


class StepGap(ServeError):  # noqa: N818
    """The step is neither the next one nor the last one; nothing was changed."""

    status = 409
    code = "step_gap"

    def __init__(self, expected_step: int, found: int) -> None:
        self.facts = {"expected_step": expected_step}
        remedy = "steps are applied one after the other, each once"
        super().__init__(f"sequence_step: expected {expected_step}, found {found}; {remedy}")


class StepConflict(ServeError):  # noqa: N818
    """The step was applied already, with another payload."""

    status = 422
    code = "step_conflict"

    def __init__(self, step: int) -> None:
        self.facts = {"expected_step": step + 1}
        remedy = "a repeated step has the same tensors, outputs and flags"
        super().__init__(
            f"sequence_step: expected the payload that was applied as step {step}, found another; {remedy}"
        )


class ModelChanged(ServeError):  # noqa: N818
    """The stream began on another bundle than the one that is served under this name now: `began`, by its digest.

    Args:
        stream: None is one that its client carries.
        began: digest.
        serves: likewise.
        version: number of the bundle that it began with, where that is served still, but takes other tensors.
    """

    status = 409
    code = "model_changed"

    def __init__(self, stream: int | str | None, began: str, serves: str, version: str | None = None) -> None:
        self.began = began
        what, whose, _ = _words(stream)
        remedy = "begin the stream again" if version is None else f"name its version: /versions/{version}"
        super().__init__(
            f"{what}: expected {whose} to go on with the bundle {serves[:12]}, found that it began with "
            f"{began[:12]}; {remedy}"
        )


class StreamsFull(ServeError):  # noqa: N818
    """As many streams live, or as many bytes of them are kept, as may be."""

    status = 503
    code = "streams_full"
    retryable = True
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    def __init__(self, what: str, most: int) -> None:
        super().__init__(
            f"streams: expected at most {most} {what}, found no room for more; end some, or try again later"
        )


class StoreUnavailable(ServeError):  # noqa: N818
    """The store of streams failed or is too slow. Whether a step was applied is found out by sending it again."""

    status = 503
    code = "store_unavailable"
    retryable = True
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}

    def __init__(self, found: str = "no answer in time") -> None:
        super().__init__(f"store of streams: expected it to answer, found {found}; send the same request again")
