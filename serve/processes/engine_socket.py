"""Where frontends find the engine: a Unix socket in a folder that only this user may enter.

Rules of this file: the listener outlives every engine's process, so that a frontend can always connect and simply waits
for the next engine's hello; nothing is left on the disk afterwards.
"""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..start_errors import ServerStartError

_BACKLOG: Final = 128
_MAX_PATH_BYTES: Final = 107  # what the kernel takes for the name of a socket
_NAME: Final = "engine"


@contextmanager
def engine_listener() -> Iterator[tuple[socket.socket, str]]:
    """Listen where frontends will connect; yield the listener and the path of its socket.

    Raises:
        ServerStartError: no folder for temporary files can be written to, or it takes no sockets.
    """
    folder = None
    try:
        try:
            folder = _private_folder()
            path = f"{folder}/{_NAME}"
            listener = _listen_at(path)
        except OSError as err:
            raise ServerStartError(
                f"temporary folder: expected to make a socket in one, found: {err}; set TMPDIR to a folder of this "
                "machine's own, with a short name"
            ) from err
        with listener:
            yield listener, path
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _listen_at(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _private_folder() -> str:
    """Make a folder that only this user may enter, with a name that is short enough for a socket in it."""
    folder = tempfile.mkdtemp(prefix="cellgate-")
    if len(folder.encode()) + 1 + len(_NAME) <= _MAX_PATH_BYTES:
        return folder
    Path(folder).rmdir()
    return tempfile.mkdtemp(prefix="cellgate-", dir="/tmp")
