"""How much one engine takes on: of requests, of bytes, of rows, and of steps a run.

Rules of this file: a record without defaults, which are the settings'; who holds to which limit is `engine`'s,
`model_queue`'s and `plan`'s.
"""

from dataclasses import dataclass

from ..settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLimits:
    """What the engine takes on.

    Attributes:
        max_waiting: requests in the engine, running ones included.
        max_waiting_bytes: bytes of their tensors.
        max_lanes: rows of a model on their way at once.
        run_limit_s: longest run that is planned where sequences can be stopped.
        step_budget: most rows times steps of a run.
    """

    max_waiting: int
    max_waiting_bytes: int
    max_lanes: int
    run_limit_s: float
    step_budget: int

    @classmethod
    def of(cls, settings: Settings) -> "EngineLimits":
        """Return the limits that a server's settings ask for."""
        return cls(
            max_waiting=settings.max_waiting,
            max_waiting_bytes=settings.max_waiting_bytes,
            max_lanes=settings.max_lanes,
            run_limit_s=settings.run_limit_s,
            step_budget=settings.max_row_steps,
        )
