"""What is said of a network in the manifest, in reports and by `inspect`: for people, nothing depends on it.

Rules of this file: pure; the same network is described alike in every process.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from ..model.network import SequenceModel


def describe(source: nn.Module, input_dim: int, vocabulary_size: int | None = None) -> dict[str, Any]:
    """Return what the manifest and the report say of a network, as JSON can say it; tokens have no width."""
    parameters = sum(p.numel() for p in source.parameters())
    if isinstance(source, SequenceModel):
        return {"kind": type(source).__name__, "parameters": parameters, **_as_json(source.describe())}
    width = {"input_dim": input_dim} if vocabulary_size is None else {"vocabulary_size": vocabulary_size}
    return {"kind": type(source).__name__, "parameters": parameters, **width}


def _as_json(value: Any) -> Any:
    """Return options of somebody's own cell as JSON can say them: a function or class by its name."""
    if isinstance(value, Mapping):
        return {str(name): _as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, np.generic):
        return _as_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(getattr(value, "__name__", type(value).__name__))
