"""`cellgate ready`: whether a server takes requests now, as one exit status for the health check of a container.

Rules of this file: light, for it runs every few seconds beside the server that it asks; no proxy of the environment
stands between, for the server is near.
"""

import argparse
import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final

from ..client.address import Address, parse_address
from ..serve.settings import PREFIX, Settings
from .errors import DONE, CheckFailedError

_OK: Final = 200


def run(arguments: argparse.Namespace) -> int:
    """Ask `/v2/health/ready` once.

    Raises:
        AddressError: the URL is none.
        CheckFailedError: nobody answers in time, or the answer is not 200.
    """
    address = parse_address(arguments.url or default_url(arguments.environ))
    status = ask(address, arguments.timeout, None if arguments.url else _trust_anybody())
    if status != _OK:
        raise CheckFailedError(f"{address.url}: expected a server that is ready, found status {status}; see its log")
    sys.stdout.write(f"{address.url} is ready\n")
    return DONE


def default_url(environ: Mapping[str, str]) -> str:
    """Return the address at which a server of the same environment listens on this machine."""
    scheme = "https" if environ.get(f"{PREFIX}TLS_CERT") else "http"
    return f"{scheme}://127.0.0.1:{environ.get(f'{PREFIX}PORT') or Settings().port}"


def _trust_anybody() -> ssl.SSLContext:
    """Return what believes any certificate; for this machine's own server, of which only a status is learnt."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ask(address: Address, timeout_s: float, trust: ssl.SSLContext | None = None) -> int:
    """Return the status with which a server answers the question whether it is ready.

    Args:
        address: of the server.
        timeout_s: for each of connecting, asking and answering.
        trust: whose certificates are believed; None: those that the system believes.

    Raises:
        CheckFailedError: no connection, no answer in time, or no HTTP.
    """
    connection = (
        HTTPSConnection(address.host, address.port, timeout=timeout_s, context=trust)
        if address.tls
        else HTTPConnection(address.host, address.port, timeout=timeout_s)
    )
    try:
        connection.request("GET", f"{address.prefix}/v2/health/ready")
        return connection.getresponse().status
    except (OSError, HTTPException) as err:
        found = str(err) or type(err).__name__
        raise CheckFailedError(
            f"{address.url}: expected a server that is ready, found: {found}; start it, or give its address"
        ) from err
    finally:
        connection.close()
