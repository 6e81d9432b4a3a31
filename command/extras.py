"""Packages that only some commands need, and the extra that installs them.

Rules of this file: an import is tried, never guessed; only a missing package of the table is a missing extra, and an
error inside one that is installed stays what it is.
"""

from collections.abc import Mapping
from importlib import import_module
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
        "reading .parquet": "parquet",
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
        extras = _EXTRAS[what]
        raise MissingExtraError(what, package, extras, _GPU if "cpu" in extras else "") from err
    except ImportError as err:
        found = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise UsageError(f"{what}: expected its packages to load, found: {found}; install them again") from err
