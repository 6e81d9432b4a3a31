"""Who asked for a change of the models, and when they are told: as soon as every frontend goes by it.

Rules of this file: no clock and no engine; a frontend that does not follow keeps nobody waiting for longer than
`TAKEN_S`.
"""

import logging
from typing import Any, Final, NamedTuple

from .desk import OnControl

logger = logging.getLogger("cellgate.engine")

TAKEN_S: Final = 5.0  # for all frontends to go by a change, before whoever asked is told anyway


class Answer(NamedTuple):
    """What is to be told when all frontends have taken a generation, or at a moment at the latest."""

    generation: int
    at_s: float
    on_done: OnControl
    value: dict[str, Any]


class ChangeAnswers:
    """The answers to changes that some frontend may not go by yet."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []

    @property
    def next_s(self) -> float | None:
        """The moment at which one is told at the latest; None where there is none."""
        return min((answer.at_s for answer in self._answers), default=None)

    def add(self, generation: int, on_done: OnControl, value: dict[str, Any], now: float) -> None:
        """Tell `value` when all frontends have taken the generation."""
        self._answers.append(Answer(generation, now + TAKEN_S, on_done, value))

    def tell(self, taken: float, now: float) -> None:
        """Tell whoever can be told.

        Args:
            taken: the oldest generation that a frontend may still go by.
            now: moment of the clock of `add`, in seconds.
        """
        for answer in tuple(self._answers):
            if answer.generation <= taken or answer.at_s <= now:
                self._answers.remove(answer)
                if answer.generation > taken:
                    logger.warning("a frontend has not taken the change of models in %g s", TAKEN_S)
                answer.on_done(answer.value)

    def take(self) -> list[OnControl]:
        """Return whoever waits, and forget them."""
        waiting = [answer.on_done for answer in self._answers]
        self._answers.clear()
        return waiting
