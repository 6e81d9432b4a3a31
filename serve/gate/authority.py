"""Whose request it is by name: the `Host` header, the `Origin` that browsers add, and the lists of both.

Rules of this file: pure and light, for the settings are checked with it. Names are compared in lower case and without
a final dot, whole, never by a suffix.
Source: RFC 9110 section 7.2 (Host), RFC 6454 (Origin), RFC 6761 section 6.3 (localhost).
"""

import re
from typing import NamedTuple

_HOST = r"\[[0-9a-f:.]{2,45}\]|[a-z0-9_](?:[a-z0-9._-]{0,252})"
_AUTHORITY = re.compile(rf"({_HOST})(?::([0-9]{{1,5}}))?")
_ORIGIN = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_PORTS = {"http": "80", "https": "443"}


class Authority(NamedTuple):
    """A host in lower case, brackets included where it is IPv6, and a port, empty where none is said."""

    host: str
    port: str


def parse_authority(text: str) -> Authority | None:
    """Read `HOST` or `HOST:PORT`; None where it is neither."""
    match = _AUTHORITY.fullmatch(text.lower())
    return None if match is None else Authority(match[1].rstrip("."), match[2] or "")


def is_local_name(host: str) -> bool:
    """Whether nobody can point a public name at it: an address, a name without a dot, or one under `localhost`."""
    is_address = host.startswith("[") or _IPV4.fullmatch(host) is not None
    return is_address or "." not in host or host.endswith(".localhost")


def origin_authority(origin: str) -> Authority | None:
    """Return where a page comes from; None for `null` and whatever else names no host.

    A port that the scheme implies is left out, as browsers do in `Host`.
    """
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        return None
    port = match[3] or ""
    return Authority(match[2].rstrip("."), "" if port == _PORTS[match[1]] else port)


def parse_hosts(text: str | None) -> frozenset[str]:
    """Read names of hosts, separated by commas, without ports.

    Raises:
        ValueError: with the part that is none.
    """
    found = set()
    for part in _parts(text):
        authority = parse_authority(part)
        if authority is None or authority.port:
            raise ValueError(part)
        found.add(authority.host)
    return frozenset(found)


def parse_origins(text: str | None) -> frozenset[str]:
    """Read origins, `http://HOST[:PORT]` or `https://…`, separated by commas.

    Raises:
        ValueError: with the part that is none; `*` is none, for it would open the server to every page of the web.
    """
    found = {part.lower() for part in _parts(text)}
    for part in sorted(found):
        if _ORIGIN.fullmatch(part) is None:
            raise ValueError(part)
    return frozenset(found)


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
