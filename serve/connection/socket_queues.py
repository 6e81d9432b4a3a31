"""What lies between a connection and its client, and whether TLS stands in between.

Rules of this file: it asks the system, and changes nothing. What is no socket (a test's) has nothing lying there.
"""

import array
import asyncio
import fcntl
import termios
from contextlib import suppress


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Return whether the kernel holds bytes that were sent to a connection."""
    return _size(transport, termios.FIONREAD) > 0


def has_unsent(transport: asyncio.BaseTransport) -> bool:
    """Return whether the kernel holds bytes of a connection that its client's kernel has not taken."""
    return _size(transport, termios.TIOCOUTQ) > 0


def is_encrypted(transport: asyncio.BaseTransport) -> bool:
    """Return whether it is TLS: then the loop takes what is sent, though nobody reads, and the kernel holds nothing."""
    return transport.get_extra_info("ssl_object") is not None


def _size(transport: asyncio.BaseTransport, request: int) -> int:
    opened = transport.get_extra_info("socket")
    size = array.array("i", [0])
    if opened is not None:
        with suppress(OSError, ValueError):  # it is closed, and its protocol is not told yet
            fcntl.ioctl(opened.fileno(), request, size)
    return size[0]
