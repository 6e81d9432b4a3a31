"""What asks a server. Rules of this folder: it knows the wire, and nothing of the server's insides.

`Client` and `AsyncClient` are for programs; the load generator of `cellgate bench` lives here too. Names are loaded on
first use: the load generator needs no httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .async_client import AsyncClient, AsyncModel, AsyncStream
    from .client import Client, Model, Stream
    from .errors import (
        AddressError,
        AnswerError,
        ClientError,
        GaveUpError,
        InferenceError,
        InputError,
        ModelError,
        UnreachableError,
    )
    from .infer_message import Prediction
    from .retry import RetryPolicy

_HOME = {
    "AddressError": "errors",
    "AnswerError": "errors",
    "AsyncClient": "async_client",
    "AsyncModel": "async_client",
    "AsyncStream": "async_client",
    "Client": "client",
    "ClientError": "errors",
    "GaveUpError": "errors",
    "InferenceError": "errors",
    "InputError": "errors",
    "Model": "client",
    "ModelError": "errors",
    "Prediction": "infer_message",
    "RetryPolicy": "retry",
    "Stream": "client",
    "UnreachableError": "errors",
}
_PACKAGES = ("httpx", "anyio")  # of the extra client

__all__ = [
    "AddressError",
    "AnswerError",
    "AsyncClient",
    "AsyncModel",
    "AsyncStream",
    "Client",
    "ClientError",
    "GaveUpError",
    "InferenceError",
    "InputError",
    "Model",
    "ModelError",
    "Prediction",
    "RetryPolicy",
    "Stream",
    "UnreachableError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    except ModuleNotFoundError as err:
        if (err.name or "").partition(".")[0] not in _PACKAGES:
            raise
        words = f'{__name__} needs {err.name}, which is not installed; run pip install "cellgate[client]"'
        raise ModuleNotFoundError(words, name=err.name) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
