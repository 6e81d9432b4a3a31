"""The request's body: which headers are taken, and at most so many bytes.

Rules of this file: headers are judged by a pure function; reading stops at the limit, so that a body never takes more
memory than the limit, whatever Content-Length says or leaves out.
"""

from collections.abc import Iterable, Mapping

from starlette.requests import Request

from ..errors import BadInput, BodyTooLarge, UnsupportedMedia, shown

_JSON = "application/json"
_MEDIA = ("", _JSON, "application/octet-stream")
_UTF8 = ("utf-8", "utf8", "us-ascii")
_MAX_DIGITS = 18


def joined_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name; one given several times is joined with commas, so that no reader takes the first only.

    Args:
        headers: as in an ASGI scope, names in lower case.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def check_headers(headers: Mapping[str, str], max_body_bytes: int) -> int | None:
    """Judge the headers that say what the body is.

    Args:
        headers: by lower-case name.
        max_body_bytes: limit of the declared length.

    Returns:
        The length of the JSON head where binary tensors follow it, 0 where they are all there is; None: all is JSON.

    Raises:
        UnsupportedMedia: neither JSON nor octets (no type at all is fine), another charset, or compressed.
        BodyTooLarge: the declared length is above the limit.
        BadInput: a declared length is no number.
    """
    _check_media(headers.get("content-type", ""))
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise UnsupportedMedia("Content-Encoding", "a body that is not compressed", encoding)
    length = _number(headers, "Content-Length")
    if length is not None and length > max_body_bytes:
        raise BodyTooLarge(max_body_bytes)
    return _number(headers, "Inference-Header-Content-Length")


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


def _number(headers: Mapping[str, str], name: str) -> int | None:
    value = headers.get(name.lower())
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS):
        raise BadInput(name, "a number of bytes", shown(value))
    return int(value)


def _check_media(content_type: str) -> None:
    media, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if media not in _MEDIA:
        raise UnsupportedMedia("Content-Type", _JSON, content_type, "curl: -H 'Content-Type: application/json'")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _UTF8:
            raise UnsupportedMedia("Content-Type", "the charset utf-8", content_type)
