"""The options of `cellgate serve`, made from the server's settings: units, ranges, defaults and environment names.

Rules of this file: light; it has no default and no range of its own, they are the settings'.
"""

import argparse
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, get_args

from ..serve.settings import FLAGS, PREFIX, RANGES, Device, LogFormat, Settings

# Every field of Settings, in the groups of the help; a test holds the two against each other.
_GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "listening": {
        "host": "address to listen on; the default is reachable from this machine only",
        "port": "TCP port; 0 takes a free one",
        "grpc": "speak gRPC too, where cellgate[grpc] is installed",
        "grpc_port": "TCP port of gRPC; 0 takes a free one",
        "workers": "processes that hold connections, parse and render; they share one engine and the port",
        "keep_alive_s": "seconds after which an idle connection is closed",
        "shutdown_grace_s": "seconds for running requests to end after SIGTERM",
        "hot_route": "answer inference requests short of the ASGI stack, with the same bytes",
        "example_request_path": "file with a request that the curl line printed at the start sends",
    },
    "models, and orders to load them": {
        "repository": "folder of bundles that may be loaded; without bundles beside it, the highest versions are "
        "served",
        "control": "take orders to load and unload models, on 127.0.0.1",
        "control_port": "TCP port for these orders; 0 takes a free one",
        "trial_limit_s": "seconds that the trial of a bundle may take before it is loaded; 0: it is loaded untried",
    },
    "device and engine": {
        "device": "auto (CUDA where it reproduces the golden cases, else the CPU), cpu, or cuda (that or fail)",
        "tf32": "let CUDA round the factors of float32 products to TF32, and take golden cases 8192 times as far off",
        "kernels": "let cellgate's own kernels run LSTM layers on CUDA; without, onnxruntime runs all",
        "threads": "threads of onnxruntime inside one run",
        "max_lanes": "sequences that a model advances side by side; a run takes 64 of them at most",
        "run_limit_s": "seconds of the longest run that is planned, where sequences can be stopped between steps",
        "engine_hang_s": "seconds without a turn of its loop after which the engine is killed and started again; 0: "
        "never",
    },
    "streams": {
        "stream_store": "where streams are kept: memory (a restart loses them), sqlite:PATH, redis://[:PASSWORD@]HOST[:PORT]",
        "state_keys_path": "file of keys, one a line, with which states that clients carry are signed",
        "stream_idle_s": "seconds after which a stream that nothing was sent for expires",
        "stream_tombstone_s": "seconds for which an ended or expired stream is told from one that never was",
        "max_streams": "streams that live at once, unless they are in Redis; above, 503",
        "max_stream_bytes": "bytes of their states and last answers, unless they are in Redis; above, 503",
    },
    "keys and TLS": {
        "api_keys_file": "file of API keys, a line NAME:KEY or NAME:sha256:HEX each; SIGHUP reads it again",
        "open_paths": "what needs no key: health, metrics, docs, with commas between them, or none",
        "allowed_hosts": "names under which the server is reached, with commas between them",
        "cors_origins": "origins of web pages that may ask, with commas between them",
        "tls_cert": "PEM file of the certificate and its chain; SIGHUP reads it and its key again",
        "tls_key": "PEM file of the certificate's private key",
    },
    "logs, metrics and traces": {
        "access_log": "write one JSON line a request to stderr",
        "log_format": "text, or json: one JSON object a line on stderr",
        "metrics": "answer GET /metrics for Prometheus, on the same port",
        "otel_endpoint": "URL that takes OpenTelemetry traces over HTTP, such as http://127.0.0.1:4318/v1/traces",
    },
    "limits": {
        "max_waiting": "requests that may be in the engine, running ones included; above, 503",
        "max_waiting_bytes": "bytes that their tensors may take; above, 503",
        "max_body_bytes": "longest body of a request, in bytes; above, 413",
        "max_batch_rows": "most rows of a request",
        "max_steps": "most steps of a row",
        "max_row_steps": "most rows times steps of a request",
        "max_answer_elements": "most numbers in an answer",
        "max_json_elements": "most values, arrays and objects in the JSON of a request",
        "max_connections": "open connections of a process; above, 503",
        "max_head_bytes": "longest request line and headers, in bytes; above, 431",
        "max_headers": "most headers of a request; above, 431",
        "max_chunks": "most pieces of a chunked body; above, 413",
        "head_timeout_s": "seconds for a request line and headers to arrive; then 408",
        "body_timeout_s": "seconds for a body to arrive; then 408",
    },
}
_METAVARS: Final[Mapping[str, str]] = {
    "host": "ADDRESS",
    "repository": "FOLDER",
    "example_request_path": "FILE",
    "stream_store": "STORE",
    "state_keys_path": "FILE",
    "api_keys_file": "FILE",
    "open_paths": "NAMES",
    "allowed_hosts": "NAMES",
    "cors_origins": "URLS",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "otel_endpoint": "URL",
}
_CHOICES: Final[Mapping[str, object]] = {"device": Device, "log_format": LogFormat}
# What it means that nothing is given.
_NOTHING: Final[Mapping[str, str]] = {
    "threads": "one, or all CPUs where that is faster",
    "grpc_port": "the one after the port, 8001",
    "repository": "none, the bundles named here may be loaded again",
    "example_request_path": "none, a request is written out",
    "otel_endpoint": "none, nothing is sent",
    "api_keys_file": "none, nobody is asked",
    "allowed_hosts": "any, but local ones only where the client is on this machine",
    "cors_origins": "none but the server's own page",
    "tls_cert": "none, HTTP without TLS",
    "tls_key": "none",
    "state_keys_path": "none, no state is signed",
}


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Add the bundles and every setting of the server, so that none can be forgotten here."""
    parser.add_argument(
        "bundles", metavar="[NAME=]BUNDLE", nargs="*", help="folder of a bundle, served as NAME; default: its own name"
    )
    defaults = {field.name: field.default for field in fields(Settings)}
    for title, settings in _GROUPS.items():
        group = parser.add_argument_group(title)
        if title == "streams":
            _add_durable(group)
        for name, words in settings.items():
            shown = _setting_help(name, words, defaults[name])
            group.add_argument(f"--{name.replace('_', '-')}", default=None, help=shown, **_form(name))


def _add_durable(group: argparse._ArgumentGroup) -> None:
    """Add the short form of a store; it is no setting, and has a variable like one."""
    group.add_argument(
        "--durable",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep streams in the file ~/.local/state/cellgate/streams.sqlite, or under $XDG_STATE_HOME; also "
        f"{PREFIX}DURABLE; default: off, in memory",
    )


def _form(name: str) -> dict[str, Any]:
    """Return how the value of a setting is given."""
    if name in FLAGS:
        return {"action": argparse.BooleanOptionalAction}
    if name in _CHOICES:
        return {"choices": get_args(_CHOICES[name])}
    return {"metavar": _METAVARS.get(name, "S" if name.endswith("_s") else "N")}


def _setting_help(name: str, words: str, default: object) -> str:
    low, high = RANGES.get(name, (None, None))
    limits = "" if low is None else f"; {low} .. {high}"
    if default is None:
        shown = _NOTHING[name]
    else:
        shown = {True: "on", False: "off"}[default] if isinstance(default, bool) else str(default)
    return f"{words}{limits}; also {PREFIX}{name.upper()}; default: {shown}"
