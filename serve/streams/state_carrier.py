"""What makes a request that carries its state into one that brings states, and its answer into one that carries on.

Rules of this file: composition of `streams.carried_state` for one model; the engine knows nothing of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..arrays import Array, Arrays
from ..errors import BadInput
from ..models.served_model import ServedModel
from .carried_state import read_state, sign_state
from .served_streams import ServedStreams


def wall_clock_s() -> float:
    """Return seconds that all servers agree on."""
    return datetime.now(UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Carried:
    """A state that came with a request: what it is, and which step leads on from it."""

    states: tuple[Array, ...] | None
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StateCarrier:
    """Reads and signs the states of one model.

    Attributes:
        model: served.
        keys: none where this server signs nothing.
        idle_s: an older state has expired.
        clock: on the wall, in seconds.
    """

    model: ServedModel
    keys: tuple[bytes, ...] = ()
    idle_s: float = 600.0
    clock: Callable[[], float] = wall_clock_s
    streams: ServedStreams = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "streams", ServedStreams.of(self.model))

    def read(self, text: str, rows: int) -> Carried:
        """Return the state that a request carries; empty text begins.

        Raises:
            ServeError: it carries none of this model, or this server signs nothing.
        """
        if not self.keys:
            raise BadInput("parameters.sequence_state", "a server with --state-keys-path", "one without")
        if not self.streams.is_streamable:
            raise BadInput("parameters.sequence_state", "a streamable network", self.model.name, "send whole sequences")
        if not text:
            return Carried(None, 0)
        now_s = self.clock()
        found = read_state(self.keys, self.model.name, self.streams, text, rows=rows, now_s=now_s, idle_s=self.idle_s)
        return Carried(found.states, found.step + 1)

    def sign(self, answer: Arrays, rows: int, step: int) -> str:
        """Return the text for the state that an answer holds."""
        states = tuple(answer[name] for name in self.streams.states)
        return sign_state(
            self.keys, self.model.name, self.streams, step=step, states=states, rows=rows, now_s=self.clock()
        )
