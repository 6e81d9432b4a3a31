"""Who may ask what: the one decision, taken from a request's head, for the hot route, for ASGI and for gRPC alike.

    Host        a name of this server                                     400, 421
    Origin      absent, our own, or listed; a preflight is answered here  403
    key         one that is known, unless the path is open                401, 403
    length      within the limit, where one is declared                   413
    path        in its one spelling                                       404

Rules of this file: pure, and denying by default: what is open is listed here by method and exact raw path, and
everything else needs a key where there are keys, whether there is such a path or not. Paths are judged raw, as they
came, never decoded: two readers of an encoded path may see two paths.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import BodyTooLarge, shown
from ..head_errors import Forbidden, ForeignOrigin, MalformedRequest, Unauthorized, UnknownPath, WrongHost
from ..settings import Settings
from .api_keys import ApiKeys, read_api_keys
from .authority import Authority, is_local_name, origin_authority, parse_authority, parse_hosts, parse_origins
from .open_paths import OPEN_PATHS, parse_open_paths

Headers = Iterable[tuple[bytes, bytes]]

_READ = frozenset(
    {
        b"host",
        b"origin",
        b"authorization",
        b"x-api-key",
        b"content-length",
        b"access-control-request-method",
    }
)
_HARMLESS = frozenset({"GET", "HEAD"})  # a page that sends these learns nothing without CORS, and changes nothing
_BEARER = b"bearer "
# An unreserved character has no business being encoded (RFC 3986 section 2.3), and an encoded slash or backslash is
# one to some readers and none to others.
_OTHER_SPELLING = re.compile(
    rb"//|\\|/\.{1,2}(?:/|$)|%(?:2[DdEeFf]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEe])"
)
_MOST_DIGITS = 18
_KNOWN_HOSTS = 256  # remembered, so that a client's every request does not have its Host parsed again


class Admitted(NamedTuple):
    """A request that may go on.

    Attributes:
        client: holder of the key, where one was asked for.
        origin: the listed origin whose page may read the answer, as it was sent; None: no page, or our own.
        is_preflight: the request only asks whether a page of that origin may ask.
    """

    client: str | None = None
    origin: bytes | None = None
    is_preflight: bool = False


_PLAIN: Final = Admitted()


@dataclass(frozen=True, kw_only=True, slots=True)
class AdmissionRules:
    """What the decision rests on.

    Attributes:
        keys: those that are known; None: nobody is asked for one.
        open_paths: methods and exact paths that need none.
        hosts: names of this server besides its addresses; empty: any, but to this machine itself only local ones.
        origins: of pages that may ask, in lower case.
        max_body_bytes: longest declared body.
    """

    keys: ApiKeys | None = None
    open_paths: frozenset[tuple[str, bytes]] = frozenset()
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    max_body_bytes: int = 2**24


def admission_rules(settings: Settings) -> AdmissionRules:
    """Return the rules of a server; reads its file of keys.

    Raises:
        KeysFileError: there should be one and it cannot be used.
    """
    groups = parse_open_paths(settings.open_paths)
    return AdmissionRules(
        keys=None if settings.api_keys_file is None else read_api_keys(settings.api_keys_file),
        open_paths=frozenset(entry for group in groups for entry in OPEN_PATHS[group]),
        hosts=parse_hosts(settings.allowed_hosts),
        origins=parse_origins(settings.cors_origins),
        max_body_bytes=settings.max_body_bytes,
    )


class Admission:
    """Decides. Has no state but a memory of what `Host` headers say.

    Args:
        rules: to decide by.
    """

    def __init__(self, rules: AdmissionRules) -> None:
        self.rules = rules
        self._length_digits = len(str(rules.max_body_bytes))
        self._host_of = lru_cache(_KNOWN_HOSTS)(_parse_host)

    def admit(self, method: str, raw_path: bytes, headers: Headers, peer: str | None) -> Admitted:
        """Let a request go on, or raise why not.

        Args:
            method: as it came; of a WebSocket, "WEBSOCKET"; of gRPC, "POST".
            raw_path: as it came, without the query; of gRPC, the full name of the method.
            headers: names in lower case; of gRPC, the metadata.
            peer: the client's address, where it is known.

        Raises:
            MalformedRequest: a header that decides stands twice, or Host is none.
            WrongHost, ForeignOrigin, Unauthorized, Forbidden, BodyTooLarge, UnknownPath: see the table above.
        """
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _READ:
                if name in found:
                    raise MalformedRequest(name.decode(), "it once", "it several times")
                found[name] = value
        host, authority = found.get(b"host"), None
        if host is not None:
            authority, is_local = self._host_of(host)
            if not is_local:
                self._check_name(authority.host, peer)
        origin = found.get(b"origin")
        admitted = _PLAIN if origin is None else self._admit_origin(method, origin, authority, found)
        if admitted.is_preflight:
            return admitted
        rules = self.rules
        if rules.keys is not None and (method, raw_path) not in rules.open_paths:
            admitted = Admitted(_check_key(rules.keys, found), admitted.origin)
        length = found.get(b"content-length", b"")
        if len(length) >= self._length_digits and self._is_too_long(length):
            raise BodyTooLarge(rules.max_body_bytes)
        # The usual path is seen to have one spelling without the expression.
        has_signs = b"%" in raw_path or b"//" in raw_path or b"/." in raw_path or b"\\" in raw_path
        if has_signs and _OTHER_SPELLING.search(raw_path):
            raise UnknownPath(method, raw_path.decode("latin-1"))
        return admitted

    def listed_origin(self, headers: Headers) -> bytes | None:
        """Return the listed origin whose page sent these headers, admitted or not; None: there is none."""
        found = [value for name, value in headers if name == b"origin"]
        is_listed = len(found) == 1 and found[0].decode("latin-1").lower() in self.rules.origins
        return found[0] if is_listed else None

    def _is_too_long(self, length: bytes) -> bool:
        return length.isdigit() and (len(length) > _MOST_DIGITS or int(length) > self.rules.max_body_bytes)

    def _check_name(self, host: str, peer: str | None) -> None:
        """DNS rebinding: a page of evil.example has its name point to this machine, whose browser then asks us.

        A request that comes from this machine under a public name is that, or a proxy, which can be listed.
        """
        if host not in self.rules.hosts and (self.rules.hosts or is_loopback(peer)):
            raise WrongHost(host)

    def _admit_origin(
        self, method: str, origin: bytes, host: Authority | None, headers: dict[bytes, bytes]
    ) -> Admitted:
        text = origin.decode("latin-1")
        is_listed = text.lower() in self.rules.origins
        if method == "OPTIONS" and b"access-control-request-method" in headers:
            if not is_listed:
                raise ForeignOrigin(text)
            return Admitted(None, origin, is_preflight=True)
        if is_listed:
            return Admitted(None, origin)
        # The page's own server, under a name that nobody else can have taken.
        if host is not None and origin_authority(text) == host and self._is_ours(host.host):
            return _PLAIN
        if method in _HARMLESS:
            return _PLAIN
        raise ForeignOrigin(text)

    def _is_ours(self, host: str) -> bool:
        return is_local_name(host) or host in self.rules.hosts


def is_loopback(peer: str | None) -> bool:
    """Whether a client is on this machine."""
    return peer is not None and (peer == "::1" or peer.startswith(("127.", "::ffff:127.")))


def _parse_host(value: bytes) -> tuple[Authority, bool]:
    authority = parse_authority(value.decode("latin-1"))
    if authority is None:
        raise MalformedRequest("Host", "HOST or HOST:PORT", shown(value.decode("latin-1")))
    return authority, is_local_name(authority.host)


def _check_key(keys: ApiKeys, headers: dict[bytes, bytes]) -> str:
    """Return whose key it is. Another kind of Authorization, such as a proxy's own, counts as none."""
    key = headers.get(b"x-api-key")
    bearer = headers.get(b"authorization", b"")
    if bearer[: len(_BEARER)].lower() == _BEARER:
        if key is not None:
            raise Forbidden("two keys")
        key = bearer[len(_BEARER) :].strip(b" ")
    if not key:
        raise Unauthorized
    holder = keys.holder_of(key)
    if holder is None:
        raise Forbidden("another")
    return holder
