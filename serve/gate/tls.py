"""TLS of the listeners: made from two files, made again when those are others, or one sentence about what is wrong.

Rules of this file: a server outlives its certificate, which is exchanged for new connections while the others go on,
and stays where the new files cannot be used. TLS 1.2 at least, HTTP/1.1 only; a key that would ask for a password on a
terminal is refused, for there may be nobody. Ciphers are the interpreter's choice.
"""

import ssl
import stat
from pathlib import Path

from ..settings import Settings
from ..start_errors import CertificateError


class ListenerTls:
    """The TLS of a process's listeners.

    Args:
        cert: file with the certificate and its chain, PEM.
        key: file with its private key, PEM, not encrypted.

    Raises:
        CertificateError: as `tls_context`.

    Attributes:
        context: of every listener of HTTP, for as long as it listens.
        pair: (certificate, key) as they are now, PEM, for a library that takes no context.
    """

    def __init__(self, cert: str, key: str) -> None:
        self._cert = cert
        self._key = key
        self.context = self._current = tls_context(cert, key)
        self.pair = self._read()
        # A listener keeps its context. Its connections take the current one at their first message, before anything
        # of a certificate is said; the callback comes whether the client names the server or not.
        self.context.sni_callback = self._choose

    def read_again(self) -> None:
        """Take the files as they are now, for new connections.

        Raises:
            CertificateError: they cannot be used; nothing was changed.
        """
        found = tls_context(self._cert, self._key)
        self._current, self.pair = found, self._read()

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._current is not self.context:
            connection.context = self._current

    def _read(self) -> tuple[bytes, bytes]:
        return _read_pem("tls_cert", self._cert), _read_pem("tls_key", self._key)


def listener_tls(settings: Settings) -> ListenerTls | None:
    """Return the TLS of a server's listeners; None where its settings name no files.

    Raises:
        CertificateError: as `tls_context`.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return ListenerTls(settings.tls_cert, settings.tls_key)


def tls_context(cert: str, key: str) -> ssl.SSLContext:
    """Return the context of a listener.

    Args:
        cert: file with the certificate and its chain, PEM.
        key: file with its private key, PEM, not encrypted.

    Raises:
        CertificateError: a file cannot be read, is not what it should be, or the two do not belong together.
    """
    for what, path in (("tls_cert", cert), ("tls_key", key)):
        _read_pem(what, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except _EncryptedKeyError as err:
        raise CertificateError("tls_key", key, "a key that is not encrypted", "one that needs a password") from err
    except ssl.SSLError as err:
        if err.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError("tls_key", key, f"the private key of {cert}", "that of another one") from err
        reason = (err.reason or "no reason given").replace("_", " ").lower()
        raise CertificateError("tls_cert", cert, f"a certificate and, in {key}, its key", reason) from err
    return context


def key_file_warnings(key: str) -> list[str]:
    """Return what is wrong with the permissions of a key file that could be read."""
    mode = stat.S_IMODE(Path(key).stat().st_mode)
    if mode & stat.S_IRWXO:
        return [f"tls_key {key}: everybody on this machine may open it (mode {mode:03o}); chmod 600"]
    return []


class _EncryptedKeyError(Exception):
    """OpenSSL asked for a password."""


def _no_password() -> str:
    raise _EncryptedKeyError


def _read_pem(what: str, path: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as err:
        raise CertificateError(what, path, "a readable file", (err.strerror or str(err)).lower()) from err
    if b"-----BEGIN " not in content:
        raise CertificateError(what, path, "a PEM file", "no line that begins with -----BEGIN")
    return content
