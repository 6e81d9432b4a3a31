"""Responses as bytes, for those who write to a connection themselves.

Rules of this file: the same bytes as uvicorn writes for the same response.
"""

import http
from collections.abc import Iterable

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in http.HTTPStatus}


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as lines, names in lower case."""
    return b"".join([b"%s: %s\r\n" % (name.lower(), value) for name, value in headers])
