"""What an engine that is not ready yet is at, and what it means that its process dies there.

    at the start    nothing is served: the first death is the end, as with any bundle that cannot be served
    later           the engine is started again, for somebody may have killed it, or memory was short for a moment; but
                    not for ever where it dies of one bundle each time
    a retired one   is then left out of the next start, and its streams are told
    a current one   is the end of the server: it was asked to serve it, and cannot

Rules of this file: no processes and no clock; the supervisor says what it hears and does what is decided here.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ..start_errors import BundleCrashError
from .error_words import how_it_died
from .slot import PAUSES_S

MOST_DEATHS: Final = len(PAUSES_S)  # in a row, of one bundle


class Stage(NamedTuple):
    """What is done with which bundle: its folder, its digest, a clause after "while"."""

    path: str
    digest: str
    doing: str


class Opening:
    """What engines said of themselves before they were ready, since the last one that was.

    Attributes:
        hopeless: the digest of a bundle of which too many engines have died in a row, or None.
    """

    def __init__(self) -> None:
        self.hopeless: str | None = None
        self._stage: Stage | None = None
        self._died_of: str | None = None
        self._deaths = 0

    def begin(self) -> None:
        """A new process has started."""
        self._stage = None

    def hear(self, stage: Stage) -> None:
        """It has begun something with a bundle."""
        self._stage = stage

    def died(self, status: int | None) -> BundleCrashError | None:
        """The process has ended without a word of its own; return of which bundle, or None where it was at none.

        Args:
            status: its exit status, or minus the signal.
        """
        stage = self._stage
        if stage is None:
            self._died_of, self._deaths = None, 0
            return None
        self._deaths = self._deaths + 1 if stage.digest == self._died_of else 1
        self._died_of = stage.digest
        self.hopeless = stage.digest if self._deaths >= MOST_DEATHS else None
        return BundleCrashError(stage.path, how_it_died(status), stage.doing)


def without_retired(hello: Mapping[str, Any], digest: str) -> dict[str, Any] | None:
    """Return a hello without the bundle; None where it is current, and so cannot be left out."""
    same = [model for model in hello["models"] if model["digest"] == digest]
    if any(model["is_current"] for model in same):
        return None
    return {**hello, "models": [model for model in hello["models"] if model["digest"] != digest]}
