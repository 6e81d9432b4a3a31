"""Binary tensors of a request: bytes that follow the JSON head, in the order in which the head names them.

Rules of this file: pure. Every size is checked in Python's integers before an array exists, and an array is a view of
the body: nothing is copied unless the bytes lie at an odd place.
Source: the extension binary_tensor_data: little-endian, row-major, no padding; `Inference-Header-Content-Length` is the
length of the head, and 0 means that there is none: the body is the one tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ...bundle.manifest import GraphSignature
from ..arrays import Array
from ..datatypes import datatype_of
from ..errors import BadInput
from .request_record import RequestRecord, TensorRecord
from .value_check import ValueRule

WIRE_DTYPES: dict[str, np.dtype[Any]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
}
HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Blob:
    """One binary tensor: how to read it, once the body is there.

    Attributes:
        rule: what its values must be.
        dtype: on the wire.
        shape: checked against the model.
        size_bytes: of the shape and dtype, and as the head says.
    """

    rule: ValueRule
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size_bytes: int

    def read(self, body: bytes, start: int) -> Array:
        """Return the checked array, which shares the memory of the body where that is possible.

        Args:
            body: holds the tensor from `start` on, all of it: `check_length` saw to that.
            start: in bytes.

        Raises:
            BadInput: a value is not finite or outside its range.
        """
        if start % self.dtype.itemsize:  # a copy of the bytes costs less than one check of values at an odd place
            body, start = body[start : start + self.size_bytes], 0
        array: Array = np.ndarray(self.shape, self.dtype, body, start)
        return self.rule.apply(array if array.flags.aligned else array.copy())


def make_blob(tensor: TensorRecord, rule: ValueRule) -> Blob:
    """Check the size that a binary tensor says of itself.

    Args:
        tensor: with `binary_bytes`; its datatype and shape fit the model.
        rule: what its values must be.

    Raises:
        BadInput: the size is not that of the shape and datatype.
    """
    dtype = WIRE_DTYPES[tensor.datatype]
    size = prod(tensor.shape) * dtype.itemsize
    if tensor.binary_bytes != size:
        expected = f"{size} bytes for {tensor.datatype} {list(tensor.shape)}"
        raise BadInput(f"inputs.{tensor.name}.{tensor.size_field}", expected, str(tensor.binary_bytes))
    return Blob(rule, dtype, tensor.shape, size)


def check_length(blob_bytes: int, body_bytes: int, head_bytes: int) -> None:
    """Check that head and binary tensors are the whole body.

    Raises:
        BadInput: bytes are missing, or some are left over.
    """
    if head_bytes + blob_bytes != body_bytes:
        expected = f"{head_bytes} bytes of JSON and {blob_bytes} of binary tensors"
        raise BadInput("body", expected, f"{body_bytes} bytes", f"{HEADER} is the length of the JSON alone")


def refuse_blobs(inputs: Sequence[TensorRecord]) -> None:
    """Refuse binary tensors where no header says where they begin.

    Raises:
        BadInput: there is one.
    """
    if any(tensor.binary_bytes is not None for tensor in inputs):
        raise BadInput(HEADER, "it, for there are binary tensors", "none", "it is the length of the JSON in bytes")


def raw_request(signature: GraphSignature, body_bytes: int) -> RequestRecord:
    """Return the request that a body without a head stands for: one row of the sequence, all outputs binary.

    Args:
        signature: of the graph.
        body_bytes: length of the body.

    Raises:
        BadInput: not a whole number of steps.
    """
    spec = next(spec for spec in signature.inputs if spec.name == signature.sequence)
    fixed = tuple(axis for axis in spec.shape[2:] if isinstance(axis, int))
    step_bytes = prod(fixed) * WIRE_DTYPES[datatype_of(spec.dtype)].itemsize
    if body_bytes == 0 or body_bytes % step_bytes:
        expected = f"steps of {step_bytes} bytes each, {datatype_of(spec.dtype)}, for {HEADER} is 0"
        raise BadInput("body", expected, f"{body_bytes} bytes")
    shape = (1, body_bytes // step_bytes, *fixed)
    tensor = TensorRecord(spec.name, datatype_of(spec.dtype), shape, None, body_bytes)
    return RequestRecord(None, (tensor,), binary_outputs=True)
