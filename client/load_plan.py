"""How and how long a load runs: one frozen record.

Rules of this file: the defaults of a load are here; those of the command line are these.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPlan:
    """How and how long a load runs.

    Attributes:
        connections: closed loop: requests under way; open loop: connections at most.
        rate: sequences a second that are due, on average; None sends in a closed loop.
        warm_up_s: seconds before measuring begins.
        seconds: of measuring.
        count: sequences measured at most.
        first: connections opened before an open loop begins.
        timeout_s: a request without an answer is given up after so many seconds.
        gone_s: the server is gone if it takes no connection for so many seconds.
        seed: of the arrivals.
    """

    connections: int = 32
    rate: float | None = None
    warm_up_s: float = 2.0
    seconds: float = 10.0
    count: int = 2**62
    first: int = 32
    timeout_s: float = 60.0
    gone_s: float = 3.0
    seed: int = 0
