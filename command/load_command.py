"""`cellgate load` and `cellgate unload`: one order to the control listener of a running server.

Rules of this file: light, for it runs beside the server, in a container that has no other program for it; no proxy of
the environment stands between.
"""

import argparse
import json
import ssl
import sys
from collections.abc import Mapping
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import quote

from ..client.address import Address, parse_address
from ..serve.settings import PREFIX, Settings
from .api_key import api_key_of
from .errors import DONE, CheckFailedError, UsageError

_OK: Final = 200
_TLS_CERT: Final = f"{PREFIX}TLS_CERT"


def run(arguments: argparse.Namespace) -> int:
    """Have a model loaded or unloaded, and say what came of it.

    Raises:
        AddressError: the URL is none.
        CheckFailedError: nobody answers in time, or the server refuses.
        UsageError: the key of the environment is none, or its certificate.
    """
    environ = arguments.environ
    address = replace(parse_address(arguments.url or default_url(environ)), api_key=api_key_of(environ))
    found = ask(address, arguments, None if arguments.url else _own_trust(environ))
    words = "is current" if found["state"] == "loaded" else "is unloaded"
    sys.stdout.write(f"{found['name']} version {found['version']} {words}\n")
    return DONE


def default_url(environ: Mapping[str, str]) -> str:
    """Return the address of the control listener of a server of the same environment."""
    scheme = "https" if environ.get(_TLS_CERT) else "http"
    return f"{scheme}://127.0.0.1:{environ.get(f'{PREFIX}CONTROL_PORT') or Settings().control_port}"


def _own_trust(environ: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return what believes only the certificate of a server of the same environment, whatever name it bears.

    The order may carry a key, and some other program may have taken the port.
    """
    certificate = environ.get(_TLS_CERT)
    if not certificate:
        return None
    try:
        context = ssl.create_default_context(cafile=certificate)
    except OSError as err:  # ssl.SSLError is one
        found = (err.strerror or str(err)).lower()
        raise UsageError(f"{_TLS_CERT}: expected a PEM file, found {certificate}: {found}; correct it") from err
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be its own authority
    return context


def ask(address: Address, arguments: argparse.Namespace, trust: ssl.SSLContext | None = None) -> Mapping[str, Any]:
    """Send the order and return the answer.

    Args:
        address: of the control listener.
        arguments: of the command.
        trust: whose certificates are believed; None: those that the system believes.

    Raises:
        CheckFailedError: no answer in time, or a refusal, which is repeated.
    """
    connection = (
        HTTPSConnection(address.host, address.port, timeout=arguments.timeout, context=trust)
        if address.tls
        else HTTPConnection(address.host, address.port, timeout=arguments.timeout)
    )
    version = arguments.model_version
    body = json.dumps({} if version is None else {"parameters": {"version": version}})
    headers = {"Content-Type": "application/json", **address.key_headers}
    path = f"{address.prefix}/v2/repository/models/{quote(arguments.name, safe='')}/{arguments.command}"
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        status, found = response.status, _object(response.read())
    except (OSError, HTTPException, ValueError) as err:
        words = str(err) or type(err).__name__
        remedy = "start the server with --control, or give its address"
        raise CheckFailedError(f"{address.url}: expected a server that takes orders, found: {words}; {remedy}") from err
    finally:
        connection.close()
    if status != _OK or not found.keys() >= {"name", "version", "state"}:
        raise CheckFailedError(f"{address.url}: {found.get('error', f'found status {status}, of no control listener')}")
    return found


def _object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer; raises ValueError where it is none."""
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("JSON that is no object")  # noqa: TRY004 - like JSON that is none
    return found
