"""Golden cases: inputs and the outputs that the reference network gave for them, as safetensors bytes.

Rules of this file: it knows the format and the signature, and compares nothing; whoever runs a graph compares.
Keys are `<case id>/in/<tensor name>` and `<case id>/out/<tensor name>`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from .axes import sizes_of
from .errors import GoldenError
from .manifest import NAME_PATTERN, GraphSignature, TensorSpec

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenCase:
    """One run of the graph: every input, states included, and every output.

    Attributes:
        id: NAME_PATTERN, unique in the bundle.
        inputs: array by name, dtypes and shapes as the signature has them; B and T are the case's own.
        outputs: likewise.
    """

    id: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def pack_golden(cases: Iterable[GoldenCase]) -> bytes:
    """Render cases as safetensors; equal cases give equal bytes.

    Raises:
        GoldenError: no case, an id twice, or an id or tensor name that is not NAME_PATTERN.
    """
    tensors: dict[str, Array] = {}
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise GoldenError(f"golden case {case.id}: expected every id once, found it twice")
        seen.add(case.id)
        for part, arrays in (("in", case.inputs), ("out", case.outputs)):
            for name, array in arrays.items():
                # A copy in C order: safetensors takes the buffer as it lies, strides or not.
                tensors[_key(case.id, part, name)] = np.array(array, order="C")
    if not seen:
        raise GoldenError("golden cases: expected at least one, found none")
    return safetensors.numpy.save(dict(sorted(tensors.items())))


def unpack_golden(data: bytes, signature: GraphSignature) -> tuple[GoldenCase, ...]:
    """Read golden cases and hold them against the signature.

    Args:
        data: the bytes of golden.safetensors.
        signature: which tensors a case must have, their dtypes and shapes.

    Returns:
        The cases sorted by id; their arrays are read-only.

    Raises:
        GoldenError: no safetensors, no case, a tensor missing or unknown, a dtype or shape that is not the
            signature's, two sizes for one free axis in a case, fewer than the least steps, a value that is not finite,
            a length outside least steps .. T, or a token outside the vocabulary; the message names case and tensor,
            expected and found.
    """
    try:
        tensors = safetensors.numpy.load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as err:  # the last three: dtypes that NumPy has not
        raise GoldenError(f"golden.safetensors: expected safetensors of NumPy's dtypes, found: {err}") from err
    parts: dict[str, dict[str, dict[str, Array]]] = {}
    for key, array in tensors.items():
        case_id, part, name = _split(key)
        array.flags.writeable = False
        parts.setdefault(case_id, {"in": {}, "out": {}})[part][name] = array
    if not parts:
        raise GoldenError("golden.safetensors: expected at least one case, found none")
    cases = tuple(GoldenCase(id=key, inputs=parts[key]["in"], outputs=parts[key]["out"]) for key in sorted(parts))
    for case in cases:
        check_case(case, signature)
    return cases


def check_case(case: GoldenCase, signature: GraphSignature) -> None:
    """Hold one case against the signature; raises GoldenError as unpack_golden does."""
    sizes: dict[str, int] = {}
    for part, arrays, specs in (("in", case.inputs, signature.inputs), ("out", case.outputs, signature.outputs)):
        expected, found = {spec.name for spec in specs}, set(arrays)
        if found != expected:
            _refuse(f"{case.id}/{part}", ", ".join(sorted(expected)), ", ".join(sorted(found)) or "nothing")
        for spec in specs:
            _check_array(f"{case.id}/{part}/{spec.name}", arrays[spec.name], spec, sizes)
    _check_integers(case, signature, sizes)


def _check_array(place: str, array: Array, spec: TensorSpec, sizes: dict[str, int]) -> None:
    """Free axes get their size where they occur first in the case, and must keep it."""
    if array.dtype != np.dtype(spec.dtype) or array.ndim != len(spec.shape):
        _refuse(place, f"{spec.dtype} {list(spec.shape)}", f"{array.dtype} {list(array.shape)}")
    for size, axis in zip(array.shape, spec.shape, strict=True):
        if axis in ("B", "T"):
            expected = sizes.setdefault(str(axis), size)
        else:
            (expected,) = sizes_of([axis], sizes.get("B", 0), sizes.get("T", 0))
        if size != expected or size < 1:
            _refuse(place, f"{spec.dtype} {list(spec.shape)} with {sizes}, none of them 0", str(list(array.shape)))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place_of_first = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
        _refuse(place, "finite values", f"{array[place_of_first]} at {list(map(int, place_of_first))}")


def _check_integers(case: GoldenCase, signature: GraphSignature, sizes: dict[str, int]) -> None:
    """Lengths and tokens index into memory: runtimes have read past its end for wrong ones (onnxruntime #28052)."""
    ranges = []
    if sizes["T"] < signature.least_steps:
        _refuse(f"{case.id}/in/{signature.sequence}", f"at least {signature.least_steps} steps", str(sizes["T"]))
    if signature.most_steps is not None and sizes["T"] > signature.most_steps:
        _refuse(f"{case.id}/in/{signature.sequence}", f"at most {signature.most_steps} steps", str(sizes["T"]))
    if signature.lengths is not None:
        ranges.append((signature.lengths, signature.least_steps, sizes["T"]))
    if signature.vocabulary_size is not None:
        ranges.append((signature.sequence, 0, signature.vocabulary_size - 1))
    for name, low, high in ranges:
        array = case.inputs[name]
        if array.min() < low or array.max() > high:
            _refuse(f"{case.id}/in/{name}", f"values in {low} .. {high}", f"{array.min()} .. {array.max()}")


def _key(case: str, part: str, name: str) -> str:
    return "/".join(_split(f"{case}/{part}/{name}"))


def _split(key: str) -> tuple[str, str, str]:
    match = re.fullmatch(f"({NAME_PATTERN})/(in|out)/({NAME_PATTERN})", key)
    if match is None:
        raise GoldenError(f"golden.safetensors: expected keys `<case id>/in|out/<tensor name>`, found {key[:300]!r}")
    return match[1], match[2], match[3]


def _refuse(place: str, expected: str, found: str) -> None:
    raise GoldenError(f"golden.safetensors: {place}: expected {expected}, found {found}")
