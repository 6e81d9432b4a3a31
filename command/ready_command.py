"""`cellgate ready`: whether a server takes requests now, as one exit status for the health check of a container.

Rules of this file: light, for it runs every few seconds beside the server that it asks; no proxy of the environment
stands between, for the server is near.
"""

import argparse
import sys
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPException
from typing import Final

from ..client.address import Address
from ..client.http_connection import open_later
from ..serve.settings import Settings
from .errors import DONE, CheckFailedError
from .own_server import address_to_ask, own_url, remedy

_OK: Final = 200
_REMEDY: Final = "start it, or give its address"


def run(arguments: argparse.Namespace) -> int:
    """Ask `/v2/health/ready` once.

    Raises:
        AddressError: the URL is none.
        CheckFailedError: nobody answers in time, or the answer is not 200.
        UsageError: the key of the environment is none.
    """
    environ = arguments.environ
    address = address_to_ask(environ, arguments.url, default_url(environ))
    status = ask(address, arguments.timeout)
    if status != _OK:
        raise CheckFailedError(f"{address.url}: expected a server that is ready, found status {status}; see its log")
    sys.stdout.write(f"{address.url} is ready\n")
    return DONE


def default_url(environ: Mapping[str, str]) -> str:
    """Return the address at which a server of the same environment listens on this machine."""
    return own_url(environ, Settings().port, "port")


def ask(address: Address, timeout_s: float) -> int:
    """Return the status with which a server answers the question whether it is ready.

    Args:
        address: of the server.
        timeout_s: for each step on the way.

    Raises:
        CheckFailedError: no connection, no answer in time, or no HTTP.
    """
    try:
        with closing(open_later(address, timeout_s)) as connection:
            connection.request("GET", f"{address.prefix}/v2/health/ready", headers=address.key_headers)
            return connection.getresponse().status
    except (OSError, HTTPException) as err:
        found = str(err) or type(err).__name__
        raise CheckFailedError(
            f"{address.url}: expected a server that is ready, found: {found}; {remedy(address, err, _REMEDY)}"
        ) from err
