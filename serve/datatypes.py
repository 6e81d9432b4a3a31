"""The datatypes of the Open Inference Protocol and the dtypes of graphs.

Rules of this file: tables and lookups only. Source: the protocol's REST specification, "Tensor Data Types".
"""

from ..bundle.manifest import TensorSpec

# Every word of the protocol; most of them no graph of this project takes.
DATATYPES = frozenset(
    "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BF16 BYTES".split()  # noqa: SIM905
)

_OF_DTYPE = {
    "float32": "FP32",
    "float16": "FP16",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}
_INTEGERS = ("INT32", "INT64")
DTYPE_OF = {"FP32": "float32", "INT32": "int32", "INT64": "int64"}


def datatype_of(dtype: str) -> str:
    """Return the protocol's word for a NumPy dtype name; the name itself where the protocol has none."""
    return _OF_DTYPE.get(dtype, dtype)


def accepted_datatypes(spec: TensorSpec) -> tuple[str, ...]:
    """Return the datatypes that an input takes.

    Integers may come in either width: their values are checked against a range anyway, so nothing is lost. FP64 is not
    narrowed in silence: half of its digits would vanish.
    """
    return _INTEGERS if spec.dtype in ("int32", "int64") else (datatype_of(spec.dtype),)


def wire_shape(spec: TensorSpec) -> list[int]:
    """Return the shape as metadata says it: -1 for a free axis."""
    return [axis if isinstance(axis, int) else -1 for axis in spec.shape]
