"""Whether the tensors that the runtime sees in a graph are those that the manifest promises.

Rules of this file: no onnxruntime; it takes whatever has a name, a type and a shape as onnxruntime says them.
"""

from typing import Any

import numpy as np

from ...bundle.manifest import TensorSpec
from ..start_errors import GraphMismatchError

_ELEMENT_TYPES = {"float": "float32", "float16": "float16", "int32": "int32", "int64": "int64"}


def check_tensors(graph: str, what: str, specs: tuple[TensorSpec, ...], found: list[Any]) -> None:
    """Compare names, order, dtypes and shapes.

    Args:
        graph: file of the graph, for the message.
        what: "inputs" or "outputs", for the message.
        specs: of the manifest.
        found: of the runtime.

    Raises:
        GraphMismatchError: says which tensor differs, in what.
    """
    names = [tensor.name for tensor in found]
    expected = [spec.name for spec in specs]
    if names != expected:
        raise GraphMismatchError(graph, what, ", ".join(expected), ", ".join(names))
    for spec, tensor in zip(specs, found, strict=True):
        element = _ELEMENT_TYPES.get(str(tensor.type).removeprefix("tensor(").removesuffix(")"))
        if element != np.dtype(spec.dtype).name:
            raise GraphMismatchError(graph, f"{what}.{spec.name}", spec.dtype, str(tensor.type))
        if not _shapes_agree(spec.shape, tensor.shape):
            raise GraphMismatchError(graph, f"{what}.{spec.name}", str(list(spec.shape)), str(tensor.shape))


def _shapes_agree(expected: tuple[int | str, ...], found: list[Any]) -> bool:
    """A free axis of the manifest is free in the model; a fixed one is equal, or unknown to the model."""
    if len(expected) != len(found):
        return False
    return all(
        not isinstance(has, int) if isinstance(wants, str) else has == wants or not isinstance(has, int)
        for wants, has in zip(expected, found, strict=True)
    )
