"""Packages that only some commands need, and the extra that installs them.

Rules of this file: an import is tried, not guessed, but for what only another process imports; only a missing package
of the table is a missing extra, and an error inside one that is installed stays what it is.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Final

from .errors import MissingExtraError, UsageError

# What a command needs altogether, so that the remedy works at the first try.
_EXTRAS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "export": "export,cpu",
        "verify": "cpu",
        "verify --source": "export,cpu",
        "predict": "serve,cpu",
        "serve": "serve,cpu",
        "inspect": "export",
        "bench": "serve,cpu",
        "reading .parquet": "parquet",
        "serve --otel-endpoint": "serve,otel,cpu",
    }
)
_PACKAGES: Final = frozenset(
    {
        "torch",
        "onnx",
        "onnxscript",
        "onnx_ir",
        "onnxruntime",
        "fastapi",
        "starlette",
        "pydantic",
        "uvicorn",
        "httptools",
        "uvloop",
        "h11",
        "orjson",
        "pyarrow",
        "prometheus_client",
        "opentelemetry",
    }
)
_GPU: Final = "; on a machine with an NVIDIA GPU, gpu in the place of cpu"


def load(name: str, what: str) -> ModuleType:
    """Import a module whose packages may be missing.

    Args:
        name: absolute name of the module.
        what: the command or the deed that needs it, a key of the table above.

    Raises:
        MissingExtraError: a package of an extra is missing; names it and the extra.
        UsageError: a package is there and broken.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as err:
        package = (err.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        raise _missing(package, what) from err
    except ImportError as err:
        found = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise UsageError(f"{what}: expected its packages to load, found: {found}; install them again") from err


def require(packages: Iterable[str], what: str) -> None:
    """Refuse to begin where a package is missing that only another process will import.

    Args:
        packages: names, of the table above.
        what: as for `load`.

    Raises:
        MissingExtraError: names the first one that is missing, and the extra.
    """
    for package in packages:
        try:
            found = find_spec(package) is not None
        except (ModuleNotFoundError, ValueError):
            found = False
        if not found:
            raise _missing(package, what)


def _missing(package: str, what: str) -> MissingExtraError:
    extras = _EXTRAS[what]
    return MissingExtraError(what, package, extras, _GPU if "cpu" in extras else "")
