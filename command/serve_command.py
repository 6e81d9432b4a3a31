"""`cellgate serve`: settings from command line and environment, then the server."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from ..serve.environment import misspelt_variables, parse_flag, settings_from_env
from ..serve.models.served_model import parse_place
from ..serve.server import run_server
from ..serve.settings import PREFIX, Settings
from .bundle_remedy import telling_how_to_make
from .errors import DONE, UsageError
from .extras import require

_DURABLE: Final = f"{PREFIX}DURABLE"
_STORE: Final = f"{PREFIX}STREAM_STORE"


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    Raises:
        MissingExtraError: a package of the server is missing.
        UsageError: an empty value, no bundle, or a store of streams and its short form.
        SettingsError, ServerStartError, BundleError: see ``settings_from_env`` and ``run_server``.
    """
    # The command line is laid over the environment, so that both are read and refused by the same rules.
    environ = dict(arguments.environ)
    for field in fields(Settings):
        value = getattr(arguments, field.name)
        if value == "":
            raise UsageError(f"--{field.name.replace('_', '-')}: expected a value, found an empty one; leave it out")
        if value is not None:
            environ[PREFIX + field.name.upper()] = str(value)
    if _is_durable(arguments):
        environ[_STORE] = f"sqlite:{_state_folder(arguments.environ) / 'streams.sqlite'}"
    settings = settings_from_env(environ)
    if not arguments.bundles and settings.repository is None:
        raise UsageError("serve: expected a bundle, or --repository with a folder of them, found neither")
    require(("onnxruntime", "fastapi", "uvicorn", "httptools", "uvloop", "orjson", "prometheus_client"), "serve")
    if settings.otel_endpoint is not None:
        require(("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"), "serve --otel-endpoint")
    for words in misspelt_variables(arguments.environ, ("durable",)):
        _echo(f"warning: {words}")
    places = [parse_place(text) for text in arguments.bundles]
    with telling_how_to_make([place.path for place in places], takes_repository=True):
        run_server(places, settings, _echo)
    return DONE


def _is_durable(arguments: argparse.Namespace) -> bool:
    """Return whether streams are to be kept in this user's file: the short form of a store, or its variable.

    Raises:
        UsageError: the store is given as well, in the same place.
        SettingsError: the variable is neither true nor false.
    """
    if arguments.durable is not None or arguments.stream_store is not None:  # over both variables
        if arguments.durable and arguments.stream_store is not None:
            raise UsageError("--durable: expected it without --stream-store, found both; it stands for sqlite:PATH")
        return bool(arguments.durable)
    text = arguments.environ.get(_DURABLE, "")
    if not text or not parse_flag("durable", text):
        return False
    if arguments.environ.get(_STORE):
        raise UsageError(f"{_DURABLE}: expected it without {_STORE}, found both; it stands for sqlite:PATH")
    return True


def _state_folder(environ: Mapping[str, str]) -> Path:
    """Return where programs of this user keep what must outlive them. Source: the XDG base directory specification."""
    root = environ.get("XDG_STATE_HOME", "")
    return (Path(root) if Path(root).is_absolute() else Path.home() / ".local" / "state") / "cellgate"


def _echo(line: str) -> None:
    """Print at once: whoever waits for the line that says "ready" reads it through a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
