"""TLS of the listener: the context made from two files, or one sentence about what is wrong with them.

Rules of this file: TLS 1.2 at least, HTTP/1.1 only; a key that would ask for a password on a terminal is refused, for
there may be nobody. Ciphers are the interpreter's choice.
"""

import ssl
import stat
from pathlib import Path

from .start_errors import CertificateError


def tls_context(cert: str, key: str) -> ssl.SSLContext:
    """Return the context of a listener.

    Args:
        cert: file with the certificate and its chain, PEM.
        key: file with its private key, PEM, not encrypted.

    Raises:
        CertificateError: a file cannot be read, is not what it should be, or the two do not belong together.
    """
    for what, path in (("tls_cert", cert), ("tls_key", key)):
        _check_pem(what, path)
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


def _check_pem(what: str, path: str) -> None:
    try:
        content = Path(path).read_bytes()
    except OSError as err:
        raise CertificateError(what, path, "a readable file", (err.strerror or str(err)).lower()) from err
    if b"-----BEGIN " not in content:
        raise CertificateError(what, path, "a PEM file", "no line that begins with -----BEGIN")
