"""When requests are due: at moments of a Poisson process, whatever the server does.

Rules of this file: pure; a rate and a seed give the same moments.
"""

from collections.abc import Iterator

import numpy as np

_AT_A_TIME = 4096


def poisson_arrivals(rate: float, seed: int) -> Iterator[float]:
    """Yield moments in seconds from 0, ascending and without end: gaps are exponential with mean 1 / rate.

    Args:
        rate: arrivals a second, above 0.
        seed: 0 or more.
    """
    random = np.random.default_rng([seed, 2])
    now = 0.0
    while True:
        for gap in random.exponential(1.0 / rate, _AT_A_TIME).tolist():
            now += gap
            yield now
