"""Counting calls for inference: how they ended, in HTTP's numbers, and how long they took.

Rules of this file: it looks at what passes and changes nothing.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from ..errors import ServeError
from ..observe.access_log import CLIENT_GONE
from ..observe.request_meter import RequestMeters
from ..observe.request_watch import RequestWatch

_OK: Final = 200


@dataclass(slots=True)
class CallNotes:
    """What is known of a request for inference while it is answered.

    Attributes:
        model: its name, once it was found among those that are served.
        request: told of it; None: nobody wants to know.
    """

    model: str | None = None
    request: RequestWatch | None = None


@contextmanager
def metered(meters: RequestMeters, notes: CallNotes) -> Iterator[None]:
    """Count the call that happens inside, whatever its end."""
    begun_s, status = perf_counter(), ServeError.status
    try:
        yield
        status = _OK
    except asyncio.CancelledError:
        status = CLIENT_GONE
        raise
    except ServeError as err:
        status = err.status
        raise
    finally:
        meters.of(notes.model).answered(status, perf_counter() - begun_s)


def status_of_error(error: Exception) -> int:
    """Return the status that HTTP would give."""
    return error.status if isinstance(error, ServeError) else ServeError.status
