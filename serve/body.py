"""The request's body: which headers are taken, and at most so many bytes.

Rules of this file: headers are judged by a pure function; reading stops at the limit, so that a body never takes more
memory than the limit, whatever Content-Length says or leaves out.
"""

from collections.abc import Mapping

from starlette.requests import Request

from .errors import BadInput, BodyTooLarge, UnsupportedMedia, shown

_JSON = "application/json"
_UTF8 = ("utf-8", "utf8", "us-ascii")
_MAX_DIGITS = 18


def check_headers(headers: Mapping[str, str], max_body_bytes: int) -> None:
    """Judge the headers that say what the body is.

    Args:
        headers: by lower-case name.
        max_body_bytes: limit of the declared length.

    Raises:
        UnsupportedMedia: another media type than JSON (none at all is fine), another charset, or compressed.
        BodyTooLarge: the declared length is above the limit.
        BadInput: the declared length is no number.
    """
    if "inference-header-content-length" in headers:
        raise UnsupportedMedia(
            "Inference-Header-Content-Length",
            "no binary tensors",
            headers["inference-header-content-length"],
            "send JSON (tritonclient: binary_data=False)",
        )
    _check_media(headers.get("content-type", ""))
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise UnsupportedMedia("Content-Encoding", "a body that is not compressed", encoding)
    length = headers.get("content-length")
    if length is not None:
        if not (length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS):
            raise BadInput("Content-Length", "a number of bytes", shown(length))
        if int(length) > max_body_bytes:
            raise BodyTooLarge(max_body_bytes)


async def read_body(request: Request, max_body_bytes: int) -> bytes:
    """Read a body of at most so many bytes.

    Raises:
        BodyTooLarge: it goes on beyond the limit.
        ClientDisconnect: the client went away.
    """
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > max_body_bytes:
            raise BodyTooLarge(max_body_bytes)
        body += chunk
    return bytes(body)


def _check_media(content_type: str) -> None:
    media, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if media not in ("", _JSON):
        raise UnsupportedMedia("Content-Type", _JSON, content_type, "curl: -H 'Content-Type: application/json'")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _UTF8:
            raise UnsupportedMedia("Content-Type", "the charset utf-8", content_type)
