"""How many connections this process may have open: each is a file to the operating system.

Rules of this file: it raises the process's own limit where it may, and never above what the system grants.
"""

import resource
from typing import Final

_SPARE: Final = 64


def allow_connections(count: int) -> int:
    """Make room for so many connections; return how many there may be, at least 1 and at most `count`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return count if soft == resource.RLIM_INFINITY else max(1, min(count, soft - _SPARE))
