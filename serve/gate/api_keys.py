"""API keys: read from a file, kept as digests, compared in constant time.

    # one key a line
    robot:6vC0…              a name and the key itself
    phone:sha256:9f86d0…     a name and the SHA-256 of the key, in hex

Rules of this file: a key is never shown, logged or kept as it is. A plain SHA-256 is enough because keys are long and
random; a password would not be, and what is shorter than 16 characters is refused.
"""

import hashlib
import re
import stat
from collections.abc import Iterable, Mapping
from hmac import compare_digest
from pathlib import Path
from typing import Final

from ..start_errors import KeysFileError

MIN_KEY_CHARACTERS: Final = 16
MAX_KEY_CHARACTERS: Final = 512
_MAX_KEYS: Final = 1024  # a request is compared with all of them, 0.1 µs each
_MAX_FILE_BYTES: Final = 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEY = re.compile(rf"[\x21-\x7e]{{{MIN_KEY_CHARACTERS},{MAX_KEY_CHARACTERS}}}")
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")


class ApiKeys:
    """The keys that a server knows.

    Args:
        digests: SHA-256 by the name of the key's holder.
    """

    def __init__(self, digests: Mapping[str, bytes]) -> None:
        self._digests = tuple(digests.items())

    def __len__(self) -> int:
        return len(self._digests)

    def holder_of(self, key: bytes) -> str | None:
        """Return whose key it is, or None.

        The time does not depend on which key it is, nor on how much of one is right: all digests are compared, each in
        constant time.
        """
        digest = hashlib.sha256(key).digest()
        found = None
        for name, known in self._digests:
            if compare_digest(digest, known):
                found = name
        return found


def read_api_keys(path: str) -> ApiKeys:
    """Read a file of keys.

    Raises:
        KeysFileError: unreadable, too large, no keys, or a line that is none; names the line, never what stands there.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as err:
        raise KeysFileError(path, "a readable file", (err.strerror or str(err)).lower()) from err
    if len(content) > _MAX_FILE_BYTES:
        raise KeysFileError(path, f"at most {_MAX_FILE_BYTES} bytes", "more")
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError as err:
        raise KeysFileError(path, "ASCII text", f"another byte at position {err.start}") from err
    return ApiKeys(_digests(path, lines))


def keys_file_warnings(path: str) -> list[str]:
    """Return what is wrong with the permissions of a file that `read_api_keys` could read."""
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [f"api_keys_file {path}: others on this machine may open it (mode {mode:03o}); chmod 600"]
    return []


def _digests(path: str, lines: Iterable[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, sign, secret = text.partition(":")
        if not sign or not _NAME.fullmatch(name):
            raise KeysFileError(path, "NAME:KEY or NAME:sha256:HEX", f"line {number} without such a name")
        if name in found:
            raise KeysFileError(path, "every name once", f"one again in line {number}")
        hashed = _DIGEST.fullmatch(secret)
        if hashed is None and (secret.startswith("sha256:") or not _KEY.fullmatch(secret)):
            expected = (
                f"a key of {MIN_KEY_CHARACTERS} .. {MAX_KEY_CHARACTERS} visible characters, or sha256: and 64 of hex"
            )
            raise KeysFileError(path, expected, f"something else in line {number}")
        found[name] = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(secret.encode()).digest()
    if not 0 < len(found) <= _MAX_KEYS:
        raise KeysFileError(path, f"1 .. {_MAX_KEYS} keys", f"{len(found)}")
    return found
