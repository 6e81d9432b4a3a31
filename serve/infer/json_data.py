"""JSON tensor data to arrays: nested to the natural shape, or flat in row-major order.

Rules of this file: pure; it knows no signature. Nothing is coerced that could lose something: a boolean is no number,
a fraction no integer, and what overflows the datatype is refused. No array is made before the number of elements is
known to be right, so a shape costs nothing.
"""

from itertools import chain
from math import prod
from typing import Any

import numpy as np

from ..arrays import Array
from ..datatypes import DTYPE_OF
from ..errors import BadInput, shown


def array_from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Array:
    """Return an array of the datatype and shape.

    Args:
        name: of the tensor, for messages.
        datatype: FP32, INT32 or INT64; others cannot be carried in JSON here.
        shape: at least one axis, none of them zero.
        data: parsed JSON.

    Raises:
        BadInput: not an array, ragged, nested otherwise than the shape, too few or too many elements, an element of
            another type, or outside the datatype's range.
    """
    place = f"inputs.{name}.data"
    if datatype not in DTYPE_OF:
        remedy = "send other tensors as binary data"
        raise BadInput(f"inputs.{name}.datatype", f"one of {', '.join(DTYPE_OF)} in JSON", shown(datatype), remedy)
    if not isinstance(data, list):
        raise BadInput(place, f"an array of {prod(shape)} numbers", shown(data))
    nested = bool(data) and isinstance(data[0], list)
    flat = _flatten(place, shape, data) if nested else data
    _check_elements(place, shape, len(flat))
    _check_types(place, datatype, shape, flat)
    numbers = _floats(place, shape, flat) if datatype == "FP32" else _integers(place, datatype, flat)
    return numbers.reshape(shape)


def array_from_flat(name: str, shape: tuple[int, ...], flat: Array) -> Array:
    """Return an array of the shape, from elements that came with a type.

    Args:
        name: of the tensor, for messages.
        shape: at least one axis, none of them zero.
        flat: in row-major order.

    Raises:
        BadInput: too few or too many elements.
    """
    _check_elements(f"inputs.{name}.data", shape, flat.size)
    return flat.reshape(shape)


def _check_elements(place: str, shape: tuple[int, ...], count: int) -> None:
    if count != prod(shape):
        raise BadInput(place, f"{prod(shape)} elements for the shape {list(shape)}", str(count))


def _flatten(place: str, shape: tuple[int, ...], data: list[Any]) -> list[Any]:
    """Take one level of nesting after the other; the passes over elements run inside the interpreter's C code."""
    level: list[Any] = [data]
    for axis, size in enumerate(shape):
        if set(map(type, level)) != {list}:
            raise BadInput(place, f"{len(shape)} levels of nesting, or a flat array", f"a value at level {axis}")
        sizes = set(map(len, level))
        if sizes != {size}:
            wrong = next(iter(sizes - {size}))
            raise BadInput(place, f"arrays of {size} at level {axis} for the shape {list(shape)}", f"one of {wrong}")
        level = list(chain.from_iterable(level))
    return level


def _check_types(place: str, datatype: str, shape: tuple[int, ...], flat: list[Any]) -> None:
    allowed = {int, float} if datatype == "FP32" else {int}
    if set(map(type, flat)) <= allowed:
        return
    index, wrong = next((index, item) for index, item in enumerate(flat) if type(item) not in allowed)
    expected = f"only {'numbers' if datatype == 'FP32' else 'integers'} ({datatype})"
    raise BadInput(place, expected, f"{shown(wrong)} at {_index(index, shape)}", "all elements are of one type")


def _floats(place: str, shape: tuple[int, ...], flat: list[Any]) -> Array:
    with np.errstate(over="ignore"):
        numbers = np.array(flat, dtype=np.float64).astype(np.float32)
    bad = ~np.isfinite(numbers)
    if bad.any():
        index = int(bad.argmax())
        raise BadInput(place, "values that FP32 can hold", f"{shown(flat[index])} at {_index(index, shape)}")
    return numbers


def _integers(place: str, datatype: str, flat: list[Any]) -> Array:
    info = np.iinfo(DTYPE_OF[datatype])
    least, most = min(flat), max(flat)
    if least < info.min or most > info.max:
        raise BadInput(place, f"values that {datatype} can hold", shown(least if least < info.min else most))
    return np.array(flat, dtype=info.dtype)


def _index(index: int, shape: tuple[int, ...]) -> list[int]:
    return [int(axis) for axis in np.unravel_index(index, shape)]
