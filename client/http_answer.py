"""HTTP/1.1 answers with a Content-Length, taken from a stream of bytes: the little that a benchmark needs, and quick.

Rules of this file: pure, bytes in and answers out; one answer at a time, for a request is sent only after the answer
to the one before. Source: RFC 9112, sections 2 to 6.
"""

import re
from typing import Final, NamedTuple

from .errors import AnswerError

_MAX_HEAD_BYTES: Final = 65_536
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r\n", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)
_BODILESS: Final = (204, 304)
_FIRST_FINAL: Final = 200


class Answer(NamedTuple):
    """One answer: its status, its body, and whether the connection may be used again."""

    status: int
    body: bytes
    keeps_alive: bool


class AnswerReader:
    """Collects the bytes of one connection."""

    __slots__ = ("_have", "_pieces", "_wanted")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._have = 0
        self._wanted = 0  # bytes of head and body; 0 as long as the head is not complete

    def feed(self, data: bytes) -> Answer | None:
        """Take bytes and return the answer that they complete, if they do.

        Raises:
            AnswerError: the bytes are no HTTP/1.x answer, have no Content-Length, or go on after the answer.
        """
        if self._pieces or self._wanted:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._wanted:
                return None  # joined once, at the end: a long body comes in many pieces
            data = b"".join(self._pieces)
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            return self._take(data, end + 4)
        if len(data) > _MAX_HEAD_BYTES or not data.startswith(b"HTTP/1."[: len(data)]):
            raise AnswerError("an HTTP/1.1 head", repr(data[:40]))
        self._keep(data, 0)
        return None

    def _keep(self, data: bytes, wanted: int) -> None:
        self._pieces, self._have, self._wanted = [data] if data else [], len(data), wanted

    def _take(self, data: bytes, start: int) -> Answer | None:
        head = data[: start - 2]
        status = _status(head)
        if status < _FIRST_FINAL:  # such as 103: the answer itself follows
            self._keep(b"", 0)
            return self.feed(data[start:]) if len(data) > start else None
        length = _LENGTH.search(head)
        if length is None and status not in _BODILESS:
            raise AnswerError("a Content-Length", f"an answer without one, of status {status}")
        wanted = start + (int(length[1]) if length is not None else 0)
        if len(data) < wanted:
            self._keep(data, wanted)
            return None
        if len(data) > wanted:
            raise AnswerError("one answer to one request", f"{len(data) - wanted} bytes after it")
        self._keep(b"", 0)
        closes = head.startswith(b"HTTP/1.0") or _CLOSE.search(head) is not None
        return Answer(status, data[start:], not closes)


def _status(head: bytes) -> int:
    digits = head[9:12]
    if not head.startswith(b"HTTP/1.") or not digits.isdigit():
        raise AnswerError("an HTTP/1.1 status line", repr(head[:40]))
    return int(digits)
