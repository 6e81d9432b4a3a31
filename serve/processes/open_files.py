"""How many connections a process may hold, as far as the system lets it have files open.

A process that has no number left for a connection cannot even refuse it: the loop closes it without a word. So no more
connections are taken than there are numbers for, and whoever comes then is told 503.

Rules of this file: the judgement is pure; `allow_connections` asks the system and raises this process's own limit.
"""

import resource
from contextlib import suppress
from typing import Final

_OTHER_FILES: Final = 256  # that a process holds besides its connections, and for those that are just being refused


def allow_connections(wanted: int) -> int:
    """Raise the soft limit on open files as far as it takes, or as far as the system lets us.

    Returns:
        So many connections may be open: as wanted, or fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + _OTHER_FILES:
        files = wanted + _OTHER_FILES if hard == resource.RLIM_INFINITY else min(wanted + _OTHER_FILES, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
            soft = files
    return wanted if soft == resource.RLIM_INFINITY else connections_of(soft, wanted)


def connections_of(files: int, wanted: int) -> int:
    """Return how many connections may be open where so many files may: half of them at least, if there are few."""
    return min(wanted, max(files - _OTHER_FILES, files // 2, 1))
