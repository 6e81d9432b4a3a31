"""Counting calls for inference: how they ended, in HTTP's numbers, and how long they took.

Rules of this file: it looks at what passes and changes nothing.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from ..access_log import CLIENT_GONE
from ..errors import ServeError
from ..request_meter import RequestMeters

_OK: Final = 200


@dataclass(slots=True)
class Metered:
    """What is known of a call: the model, once its request was read."""

    model: str | None = None


@contextmanager
def metered(meters: RequestMeters) -> Iterator[Metered]:
    """Count the call that happens inside, whatever its end."""
    found, begun_s, status = Metered(), perf_counter(), ServeError.status
    try:
        yield found
        status = _OK
    except asyncio.CancelledError:
        status = CLIENT_GONE
        raise
    except ServeError as err:
        status = err.status
        raise
    finally:
        meters.of(found.model).answered(status, perf_counter() - begun_s)


def status_of_error(error: Exception) -> int:
    """Return the status that HTTP would give."""
    return error.status if isinstance(error, ServeError) else ServeError.status
