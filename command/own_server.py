"""The server that a command asks: where that of the same environment listens, and who is believed to be it.

Rules of this file: light, for its commands run beside the server. A server of this environment with a certificate is
known by that very certificate, for 127.0.0.1 seldom stands in it; who is asked at an address that was given has to
prove the address, be it by the same certificate.
"""

from collections.abc import Mapping
from dataclasses import replace
from http.client import HTTPException
from typing import Final

from ..client.address import Address, parse_address
from ..client.certificate import believing, distrust_in, remedy_for
from ..client.http_connection import hung_up
from ..serve.settings import PREFIX
from .api_key import api_key_of
from .errors import CheckFailedError

_CERTIFICATE: Final = f"{PREFIX}TLS_CERT"
_TRUST: Final = f"set {_CERTIFICATE} to its certificate"


def own_url(environ: Mapping[str, str], port: int, setting: str) -> str:
    """Return the address of this environment's server on this machine.

    Args:
        environ: of the server; its certificate says that it speaks TLS.
        port: where the environment names none.
        setting: name of the port's setting.
    """
    scheme = "https" if environ.get(_CERTIFICATE) else "http"
    return f"{scheme}://127.0.0.1:{environ.get(PREFIX + setting.upper()) or port}"


def address_to_ask(environ: Mapping[str, str], given: str | None, own: str = "") -> Address:
    """Return the address with the key and the certificate of the environment.

    Args:
        environ: of this process.
        given: URL of a server, or None.
        own: URL of this environment's, which is asked where none was given.

    Raises:
        AddressError: the URL is none.
        CheckFailedError: the certificate's file cannot be read, or holds none.
        UsageError: the key could not stand in a header.
    """
    address = replace(parse_address(given or own), api_key=api_key_of(environ))
    certificate = environ.get(_CERTIFICATE)
    if not address.tls or not certificate:
        return address
    try:
        return replace(address, believed=believing(certificate, by_name=given is not None))
    except OSError as err:  # ssl.SSLError is one
        found = (err.strerror or str(err)).lower()
        raise CheckFailedError(
            f"{_CERTIFICATE}: expected a PEM file, found {certificate}: {found}; correct it"
        ) from err


def remedy(address: Address, err: OSError | HTTPException | ValueError, otherwise: str) -> str:
    """Return what to do where a server gives no answer.

    Args:
        address: that was asked.
        err: what came of it.
        otherwise: the remedy where nothing points to TLS.
    """
    refusal = distrust_in(err)
    if refusal is not None:
        return remedy_for(refusal, _TRUST)
    if hung_up(address, err):
        return f"it may speak TLS: {_TRUST}, and begin an address that you give with https://"
    return otherwise
