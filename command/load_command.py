"""`cellgate load` and `cellgate unload`: one order to the control listener of a running server.

Rules of this file: light, for it runs beside the server, in a container that has no other program for it; no proxy of
the environment stands between.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote

from ..client.address import Address
from ..client.http_connection import open_later
from ..serve.settings import Settings
from .errors import DONE, CheckFailedError
from .own_server import address_to_ask, own_url, remedy

_OK: Final = 200
_REMEDY: Final = "start the server with --control, or give its address"


def run(arguments: argparse.Namespace) -> int:
    """Have a model loaded or unloaded, and say what came of it.

    Raises:
        AddressError: the URL is none.
        CheckFailedError: nobody answers in time, or the server refuses.
        UsageError: the key of the environment is none, or its certificate.
    """
    address = address_to_ask(arguments.environ, arguments.url, default_url(arguments.environ))
    found = ask(address, arguments)
    words = "is current" if found["state"] == "loaded" else "is unloaded"
    sys.stdout.write(f"{found['name']} version {found['version']} {words}\n")
    return DONE


def default_url(environ: Mapping[str, str]) -> str:
    """Return the address of the control listener of a server of the same environment."""
    return own_url(environ, Settings().control_port, "control_port")


def ask(address: Address, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Send the order and return the answer.

    Raises:
        CheckFailedError: no answer in time, or a refusal, which is repeated.
    """
    version = arguments.model_version
    body = json.dumps({} if version is None else {"parameters": {"version": version}})
    headers = {"Content-Type": "application/json", **address.key_headers}
    path = f"{address.prefix}/v2/repository/models/{quote(arguments.name, safe='')}/{arguments.command}"
    try:
        with closing(open_later(address, arguments.timeout)) as connection:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            status, found = response.status, _object(response.read())
    except (OSError, HTTPException, ValueError) as err:
        words = str(err) or type(err).__name__
        raise CheckFailedError(
            f"{address.url}: expected a server that takes orders, found: {words}; {remedy(address, err, _REMEDY)}"
        ) from err
    if status != _OK or not found.keys() >= {"name", "version", "state"}:
        raise CheckFailedError(f"{address.url}: {found.get('error', f'found status {status}, of no control listener')}")
    return found


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer; raises ValueError where it is none."""
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("JSON that is no object")  # noqa: TRY004 - like JSON that is none
    return found
