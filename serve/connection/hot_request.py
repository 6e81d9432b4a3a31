"""Whether a request may take the hot route, judged by its head alone.

Rules of this file: pure, and cheap, for it runs for every request; a doubt is a no, and the request takes the route in
`routes`, which judges it in full and says what is wrong.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from ..infer.infer_request import is_large_body
from ..observe.request_id import HEADER

_LENGTH, _TYPE, _HEAD_LENGTH, _ID, _HOST, _ODD = range(6)
_KINDS = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"content-type": _TYPE,
    b"inference-header-content-length": _HEAD_LENGTH,
    HEADER: _ID,
    b"content-encoding": _ODD,
    b"transfer-encoding": _ODD,
    b"expect": _ODD,
    b"upgrade": _ODD,
    b"origin": _ODD,
}
_TYPES = frozenset({b"application/json", b"application/octet-stream"})
_MAX_DIGITS = 18


class HotRequest(NamedTuple):
    """A request of the hot route, as its head says.

    Attributes:
        body_bytes: length of its body.
        head_bytes: of these, the JSON in front of binary tensors; None: all is JSON.
        keep_alive: the connection stays open.
        given_id: what the client calls it, if it does.
    """

    body_bytes: int
    head_bytes: int | None
    keep_alive: bool
    given_id: bytes | None


class ParsedHead(Protocol):
    """What the HTTP parser says of a head."""

    def get_method(self) -> bytes: ...  # noqa: D102 - the class says it
    def get_http_version(self) -> str: ...  # noqa: D102
    def should_keep_alive(self) -> bool: ...  # noqa: D102


def hot_request(parser: ParsedHead, headers: Iterable[tuple[bytes, bytes]], max_body_bytes: int) -> HotRequest | None:
    """Return the request if it is of the plain kind, else None.

    Args:
        parser: has just read the head.
        headers: names in lower case.
        max_body_bytes: a longer body is not of the plain kind.
    """
    known = _known(headers)
    if known is None or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
        return None
    body_bytes, head_bytes, given_id = known
    if body_bytes > max_body_bytes or is_large_body(body_bytes, head_bytes):
        return None
    return HotRequest(body_bytes, head_bytes, parser.should_keep_alive(), given_id)


def _known(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, int | None, bytes | None] | None:
    """Return the lengths of the body and of its JSON head, and the id; None where a header is odd.

    The head's length and the id may be undeclared.
    """
    found: list[bytes | None] = [None] * _ODD
    for name, value in headers:
        kind = _KINDS.get(name)
        if kind is None:
            continue
        if kind == _ODD or found[kind] is not None:
            return None
        found[kind] = value
    length, media, head_length, given_id, host = found
    if host is None or length is None or not _is_number(length) or (media is not None and media not in _TYPES):
        return None
    if head_length is None:
        return int(length), None, given_id
    return (int(length), int(head_length), given_id) if _is_number(head_length) else None


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _MAX_DIGITS
