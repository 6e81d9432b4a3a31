"""Files of a folder that is held open: read without following links, written so that they survive a crash.

Rules of this file: it knows folders and files and nothing of bundles. Every path is one name below a folder's
descriptor, so nobody can exchange the folder between two steps.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 2**20


class NotPlainError(OSError):
    """The name is a link, one of several hard links, a folder, a pipe, a socket or a device."""


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Hold a folder open by descriptor. Its last component must not be a link.

    Raises:
        OSError: missing, not a folder, a link, or not permitted.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def list_names(folder: int) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(os.listdir(folder))


@contextmanager
def open_plain(folder: int, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file for reading; yields it and its size in bytes.

    What is checked is what is read: type, links and size are asked of the open descriptor.

    Raises:
        NotPlainError: a link, a name of several for one file, or no file at all.
        OSError: missing, or not permitted.
    """
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as err:
        # A link and a socket do not even open; the lower words say more than the system's.
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise NotPlainError("a link or socket") from err
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotPlainError("a folder, pipe or device")
        if found.st_nlink > 1:
            raise NotPlainError(f"one of {found.st_nlink} hard links to a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file, found.st_size
    finally:
        os.close(descriptor)


def read_whole(file: BinaryIO, size_bytes: int) -> bytes:
    """Read all of a file, but never more than one byte beyond its expected size, so that growth shows."""
    return file.read(size_bytes + 1)


def hash_chunks(file: BinaryIO, size_bytes: int) -> tuple[int, str]:
    """Return (bytes read, sha-256) without holding the file; stops soon after its expected size."""
    digest, count = hashlib.sha256(), 0
    while count <= size_bytes and (chunk := file.read(_CHUNK_BYTES)):
        digest.update(chunk)
        count += len(chunk)
    return count, digest.hexdigest()


def write_new(folder: int, name: str, data: bytes) -> None:
    """Create a file with mode 0644 whatever the umask, and wait until the disk has it.

    Raises:
        OSError: the name exists, or the disk refuses.
    """
    descriptor = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder
    )
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o644)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
