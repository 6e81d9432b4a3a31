"""The server of the same environment, on this machine: where it listens, and a connection to it or to another one.

Rules of this file: light, for its commands run beside the server. A server with a certificate is known by that very
certificate, for 127.0.0.1 seldom stands in it; who is asked at an address that was given has to prove the address.
"""

import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPSConnection
from typing import Final

from ..client.address import Address
from ..serve.settings import PREFIX
from .errors import CheckFailedError

_CERTIFICATE: Final = f"{PREFIX}TLS_CERT"


def own_url(environ: Mapping[str, str], port: int, setting: str) -> str:
    """Return the address of this environment's server on this machine.

    Args:
        environ: of the server; its certificate says that it speaks TLS.
        port: where the environment names none.
        setting: name of the port's setting.
    """
    scheme = "https" if environ.get(_CERTIFICATE) else "http"
    return f"{scheme}://127.0.0.1:{environ.get(PREFIX + setting.upper()) or port}"


def connection_to(address: Address, timeout_s: float, certificate: str | None = None) -> HTTPConnection:
    """Return a connection that is not open yet.

    Args:
        address: of the server.
        timeout_s: for each step on the way.
        certificate: the file of the only certificate that is believed, whatever its names; None: as the system says.

    Raises:
        CheckFailedError: the file cannot be read, or holds no certificate.
    """
    if not address.tls:
        return HTTPConnection(address.host, address.port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cafile=certificate)
    except OSError as err:  # ssl.SSLError is one
        found = (err.strerror or str(err)).lower()
        raise CheckFailedError(
            f"{_CERTIFICATE}: expected a PEM file, found {certificate}: {found}; correct it"
        ) from err
    if certificate is not None:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be its own issuer
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # a default from 3.13 on that self-made ones may miss
    return HTTPSConnection(address.host, address.port, timeout=timeout_s, context=context)


def own_certificate(environ: Mapping[str, str]) -> str | None:
    """Return the file of this environment's certificate; None: its server speaks no TLS."""
    return environ.get(_CERTIFICATE) or None
