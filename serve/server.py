"""The server: listen, start the processes that open, prove and serve, say where it is, stop.

Rules of this file: the address is taken before the bundles are opened, so that a busy port is told at once; nothing is
accepted before every model is proved; text for people goes through the `echo` that the caller hands in. The work is
done in other processes (`processes`); this one loads no runtime and no web framework.
"""

import ipaddress
import json
import os
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .gate.api_keys import keys_file_warnings, read_api_keys
from .gate.open_paths import parse_open_paths
from .gate.tls import key_file_warnings, tls_context
from .listeners import base_url, open_listeners, scheme_of, target
from .models.served_model import BundlePlace
from .observe.operation_log import SUPERVISOR, operation_logging
from .processes.supervisor import Supervisor
from .rpc.port import missing_package
from .settings import Settings

Echo = Callable[[str], None]


def run_server(places: Sequence[BundlePlace], settings: Settings, echo: Echo) -> None:
    """Serve bundles until SIGINT or SIGTERM; return after running requests have ended.

    A second SIGINT ends everything at once. Outside the main thread no signal stops it: use `Supervisor` there.

    Args:
        places: bundles and, optionally, other names for them.
        settings: of this server; port 0 takes a free one.
        echo: gets lines for people; the last ones say where the page is, how to ask, and how to stop.

    Raises:
        KeysFileError, CertificateError: a file of keys, a certificate or its key cannot be used.
        PortBusyError, NoAddressError: the address cannot be listened on.
        BundleError, ServerStartError: a bundle cannot be served; the message says which and why.
    """
    warnings = exposure_warnings(settings)
    with open_listeners(settings) as held:
        supervisor = Supervisor(places, settings, held.http, held.rpc_address, held.orders)

        def say(hello: Mapping[str, Any]) -> None:
            models = hello["models"]
            streams = [f"streams:      {_streams_words(hello)}"] if hello.get("streams") else []
            orders = [] if held.control is None else [f"control:      {_control_words(held.control, settings)}"]
            ready = ready_lines(models[0], base_url(held.http, scheme_of(settings)), settings, held.rpc)
            for line in (*warnings, *model_lines(models), *streams, *orders, *ready):
                echo(line)

        has_files = settings.api_keys_file is not None or settings.tls_cert is not None
        with operation_logging(settings.log_format, SUPERVISOR), _signals_stop(supervisor, has_files=has_files):
            supervisor.run(say)
        echo("stopped")


def exposure_warnings(settings: Settings) -> list[str]:
    """Open the files of keys and of TLS as the frontends will, and return what an operator should know.

    Raises:
        KeysFileError, CertificateError: one of them cannot be used.
    """
    found = []
    if settings.api_keys_file is not None:
        read_api_keys(settings.api_keys_file)
        found += keys_file_warnings(settings.api_keys_file)
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls_context(settings.tls_cert, settings.tls_key)
        found += key_file_warnings(settings.tls_key)
    if not is_loopback(settings.host):
        if settings.api_keys_file is None:
            found.append(
                f"{settings.host} is reached from other machines and nobody is asked for a key: --api-keys-file"
            )
        elif settings.tls_cert is None:
            found.append(f"keys travel to {settings.host} unencrypted: --tls-cert, or a proxy in front that does TLS")
    return [f"warning: {text}" for text in found]


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only; a name that does not resolve is none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # listening on it says why
        return False
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def model_lines(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return what is served, on what, how it was proved and how it is going to be run.

    Args:
        models: as in the engine's hello (`processes.hello`).
    """
    for note in dict.fromkeys(note for model in models for note in model["facts"]["notes"]):
        yield f"warning: {note}"
    for model in models:
        if not model["verification"]["holds"]:
            yield f"warning: {model['name']}: {model['verification']['statement']}"
    for model in models:
        facts = model["facts"]
        threads = f"{facts['threads']} thread{'s'[: facts['threads'] > 1]}"
        yield (
            f"serving {model['name']} version {model['version']} on {facts['device']} ({facts['reason']}), "
            f"onnxruntime {facts['version']}, {threads}, {facts['precision']}"
        )
        yield f"  placement: {model['placement_line']}"
        yield f"  golden cases: {model['golden_line']}"
        yield f"  plan: {model['plan']}"


def ready_lines(model: Mapping[str, Any], url: str, settings: Settings, rpc: socket.socket | None = None) -> list[str]:
    """Return the last lines of the start: keys, workers, page, gRPC, a curl line that works as it stands, how to stop.

    Args:
        model: as in the engine's hello.
        url: of this server.
        settings: of this server.
        rpc: holds the port of gRPC; None: there is none.
    """
    counted = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
    # A browser sends no key with an address.
    is_shut = settings.api_keys_file is not None and "docs" not in parse_open_paths(settings.open_paths)
    return [
        *(["keys:         asked for, by the page too; for a browser: --open-paths health,docs"] if is_shut else []),
        f"workers:      {counted} for HTTP, 1 for the engine; signals go to process {os.getpid()}",
        f"OpenAPI page: {url}/docs",
        f"gRPC:         {_rpc_words(settings, rpc)}",
        f"try it:       {curl_line(model, url, settings)}",
        "stop with Ctrl+C or SIGTERM",
    ]


def curl_line(model: Mapping[str, Any], url: str, settings: Settings) -> str:
    """Return a shell command that asks the model for a prediction; a key is to be put into the shell's variable KEY.

    Args:
        model: as in the engine's hello.
        url: of this server.
        settings: of this server; may name a file with a request.
    """
    path = settings.example_request_path
    data = f"@{path}" if path else json.dumps(model["example"], separators=(",", ":"))
    words = ["curl -s"]
    if settings.tls_cert is not None:
        words.append(f"--cacert {shlex.quote(settings.tls_cert)}")
    words += [f"{url}/v2/models/{model['name']}/infer", "-H 'Content-Type: application/json'"]
    if settings.api_keys_file is not None:
        words.append('-H "Authorization: Bearer $KEY"')
    return " ".join([*words, "-d", shlex.quote(data)])


def _streams_words(hello: Mapping[str, Any]) -> str:
    """Say where streams are kept, where there is a model that has any."""
    if any(json.loads(model["manifest"])["streamable"] for model in hello["models"]):
        return str(hello["streams"])
    return "none, for no served model can be streamed"


def _control_words(control: socket.socket, settings: Settings) -> str:
    return f"{base_url(control, scheme_of(settings))}/v2/repository/models/NAME/load, or /unload"


def _rpc_words(settings: Settings, rpc: socket.socket | None) -> str:
    if rpc is not None:
        return f"{target(rpc)}, 1 process"
    if not settings.grpc:
        return "off"
    return f"off, for {missing_package()} is not installed: pip install 'cellgate[grpc]'"


@contextmanager
def _signals_stop(supervisor: Supervisor, *, has_files: bool = False) -> Iterator[None]:
    """Stop in order at SIGINT or SIGTERM, at once at a second SIGINT; outside the main thread leave signals alone.

    Where there are files of keys or of TLS, SIGHUP has them read again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_told = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal is_told
        supervisor.stop(now=is_told and number == signal.SIGINT)
        is_told = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    if has_files:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: supervisor.read_keys())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
