"""Heads that two readers could understand in two ways, refused before anybody acts on them.

Rules of this file: pure; it adds to what the HTTP parser refuses by itself (two lengths, a length beside chunks, bare
line feeds, folded lines, spaces before a colon). A proxy in front and this server must see the same requests in the
same bytes, or one client's bytes become another one's request.
Sources: RFC 9112, sections 2.3 (version), 3.2 (Host and target), 6.1 (Transfer-Encoding) and 11.2 (smuggling); RFC
6455, section 4.1 (handshake).
"""

from collections.abc import Iterable
from typing import Any

import httptools

from ..errors import shown
from ..head_errors import MalformedRequest

_VERSIONS = ("1.1", "1.0")


def check_head(version: str, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Judge a request line and headers.

    Args:
        version: of HTTP, as the parser read it.
        url: the target, as it came.
        headers: names in lower case.

    Raises:
        MalformedRequest: another version, no Host or several, a target that names another host, or a transfer coding
            that is not chunked alone.
    """
    if version not in _VERSIONS:
        raise MalformedRequest("HTTP", "version 1.1 or 1.0", version[:8])
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        raise MalformedRequest("Host", "one header", f"{len(hosts)}")
    if not url.startswith(b"/") and url != b"*":
        _check_absolute(url, hosts)
    for name, value in headers:
        if name == b"transfer-encoding" and (version != "1.1" or value.lower() != b"chunked"):
            expected = "chunked alone" if version == "1.1" else "none with HTTP/1.0"
            raise MalformedRequest("Transfer-Encoding", expected, shown(value.decode("latin-1")))


def is_handshake(method: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request may become a WebSocket: it is a GET without a body, which some say in words, as a length of 0.

    Args:
        method: as it came.
        headers: names in lower case.
    """
    return method == b"GET" and not any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
    )


def _check_absolute(url: bytes, hosts: list[bytes]) -> None:
    """A proxy's form of the target: it rules over Host, so a Host that differs would deceive whoever reads that."""
    try:
        parsed: Any = httptools.parse_url(url)  # its types leave out that each part may be None
    except httptools.HttpParserInvalidURLError as err:
        raise MalformedRequest("target", "a path", shown(url.decode("latin-1"))) from err
    if parsed.host is None or parsed.path is None or parsed.userinfo is not None:
        raise MalformedRequest("target", "a path", shown(url.decode("latin-1")))
    host = b"[%s]" % parsed.host if b":" in parsed.host else parsed.host
    named = {host} | ({b"%s:%d" % (host, parsed.port)} if parsed.port else set())
    if hosts and hosts[0].lower() not in {name.lower() for name in named}:
        raise MalformedRequest("Host", "that of the target", shown(hosts[0].decode("latin-1")))
