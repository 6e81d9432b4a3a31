"""Responses as bytes, for those who write to a connection themselves.

Rules of this file: the same bytes as uvicorn writes for the same response.
"""

import http
from collections.abc import Iterable
from functools import lru_cache

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in http.HTTPStatus}


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as lines, names in lower case."""
    return b"".join([b"%s: %s\r\n" % (name.lower(), value) for name, value in headers])


@lru_cache(1024)
def answer_lines(head_bytes: int | None, size_bytes: int) -> bytes:
    """Return the headers of a good answer as lines; most answers are of a few sizes.

    Args:
        head_bytes: length of the JSON head where binary tensors follow it; None: all is JSON.
        size_bytes: of the whole body.
    """
    if head_bytes is None:
        kind = b"content-length: %d\r\ncontent-type: application/json\r\n" % size_bytes
    else:
        kind = (
            b"inference-header-content-length: %d\r\ncontent-length: %d\r\n"
            b"content-type: application/octet-stream\r\n" % (head_bytes, size_bytes)
        )
    return kind + b"x-content-type-options: nosniff\r\n"
