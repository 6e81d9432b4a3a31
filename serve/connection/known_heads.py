"""Heads of requests that were parsed and judged once, by their bytes: who sends the same ones again needs no parser.

Rules of this file: nothing is known but what the parser said of exactly these bytes, between two messages of a
connection, and whom the decider let pass with them: another client's address, or other rules, and it is asked again.
Whether the server takes work now is no part of it.
"""

from typing import Final

from .hot_request import HotRequest

Headers = list[tuple[bytes, bytes]]

# At most some 3 MiB a process. A client's heads differ in Content-Length, so that a few hundred are usual.
_HEADS: Final = 1024
HEAD_BYTES: Final = 1024
_KEYS: Final = frozenset({b"authorization", b"x-api-key"})  # kept nowhere as they are; see `api_keys`
_LINE_END: Final = b"\r\n"


class KnownHead:
    """What the parser said of a head, and who was admitted with it last.

    Attributes:
        url: as it came.
        headers: names in lower case.
        request: how its body is to be read.
        admitted: the decider and the client's address that it let pass; the decider is pure.
    """

    __slots__ = ("admitted", "headers", "request", "url")

    def __init__(self, url: bytes, headers: Headers, request: HotRequest) -> None:
        self.url = url
        self.headers = headers
        self.request = request
        self.admitted: tuple[object, str | None] | None = None


class KnownHeads(dict[bytes, KnownHead]):
    """The heads of a process."""

    def remember(self, head: bytes, known: KnownHead) -> None:
        """Keep a head, unless it is long, holds a key, will hardly come again, or the connection does not stay open.

        Args:
            head: the first bytes between two messages, up to an empty line.
            known: what the parser said of the message that began with them.
        """
        if len(head) > HEAD_BYTES or known.request.given_id is not None or not known.request.keep_alive:
            return
        if any(name in _KEYS for name, _ in known.headers):
            return
        # The parser skips line ends in front of a message: then these bytes are not its head.
        is_whole = head.startswith(b"POST %s HTTP/1.1\r\n" % known.url) and head.endswith(_LINE_END + _LINE_END)
        if not is_whole or head.count(_LINE_END) != len(known.headers) + 2:
            return
        if len(self) >= _HEADS:
            self.clear()
        self[head] = known
