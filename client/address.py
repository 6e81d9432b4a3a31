"""The address of a server, taken apart once.

Rules of this file: pure.
"""

import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from .errors import AddressError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a server is.

    Attributes:
        host: name or number, without brackets.
        port: 1 .. 65535.
        tls: whether to speak TLS.
        prefix: path before /v2, without a slash at its end.
        api_key: for a server that asks for one, visible ASCII; in no text that is shown.
        believed: says whose certificate is believed; None: whose the system believes.
    """

    host: str
    port: int
    tls: bool = False
    prefix: str = ""
    api_key: str | None = field(default=None, repr=False)
    believed: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """What a connection over TLS is made with; None where there is no TLS."""
        return (self.believed or ssl.create_default_context()) if self.tls else None

    @property
    def key_headers(self) -> dict[str, str]:
        """The header that carries the key, where there is one."""
        return {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as text."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.prefix}"


def is_url(text: str) -> bool:
    """Whether the text is meant as a URL and not as a path."""
    return text.lower().startswith(("http://", "https://"))


def parse_address(text: str) -> Address:
    """Read http://HOST:PORT or https://HOST:PORT, with an optional path before /v2.

    Raises:
        AddressError: another scheme, no host, a port out of range, or parts that have no meaning here.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as whoever connects will do: no label is empty, or too long
    except ValueError as err:
        raise AddressError(text, str(err)) from err
    if parts.scheme not in _PORTS or not parts.hostname:
        raise AddressError(text, f"the scheme {parts.scheme!r}" if parts.hostname else "no host")
    if port == 0 or _has_more(parts) or not text.isascii() or not text.isprintable() or " " in text:
        raise AddressError(text, "something else")
    return Address(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        tls=parts.scheme == "https",
        prefix=parts.path.rstrip("/").removesuffix("/v2"),
    )


def _has_more(parts: SplitResult) -> bool:
    return bool(parts.query or parts.fragment or parts.username or parts.password)
