"""Compare what two implementations gave: form first, then values.

Rules of this file: pure NumPy; a pass is written as a pass (difference <= tolerance), so NaN never passes; nothing is
broadcast, nothing is zipped short.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...bundle.manifest import TensorSpec

Array = NDArray[np.generic]
# From here to the largest float32 is one step; from there on NumPy finds no next.
_LARGEST = float(np.nextafter(np.finfo(np.float32).max, np.float32(0)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far one output is from the float64 reference.

    Attributes:
        max_abs: largest absolute difference; inf where anything is not finite.
        index: where that is.
        expected: the reference there.
        found: what was compared there.
        ulps: max_abs in units of the last place of float32 at ``expected``.
        p50: median of the absolute differences; p90 and p99 likewise.
        tolerance: what was allowed.
        passed: max_abs is finite and <= tolerance.
    """

    max_abs: float
    index: tuple[int, ...]
    expected: float
    found: float
    ulps: float
    p50: float
    p90: float
    p99: float
    tolerance: float
    passed: bool


def form_complaint(
    found: Mapping[str, Array], expected: Mapping[str, Array], specs: Sequence[TensorSpec]
) -> str | None:
    """Return what is wrong with names, count, dtypes or shapes, or None.

    Args:
        found: outputs by name, float32 as the signature says.
        expected: the reference's outputs, float64, for the shapes.
        specs: of the outputs that are due, for names and dtypes.
    """
    names = [spec.name for spec in specs]
    if list(found) != names:
        return f"outputs are {', '.join(found) or 'none'}, expected {', '.join(names)}"
    for spec in specs:
        if found[spec.name].shape != expected[spec.name].shape:
            return f"{spec.name} has shape {found[spec.name].shape}, expected {expected[spec.name].shape}"
        if found[spec.name].dtype != np.dtype(spec.dtype):
            return f"{spec.name} is {found[spec.name].dtype}, expected {spec.dtype}"
    return None


def measure(found: Array, expected: Array, tolerance: float) -> Difference:
    """Measure one output against its reference of the same shape.

    Raises:
        ValueError: the shapes differ (compare the form first).
    """
    if found.shape != expected.shape:
        raise ValueError(f"found has shape {found.shape}, expected {expected.shape}")
    f64, reference = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(f64 - reference)
    # What is not finite on either side is infinitely far, also where both are: nothing served should be.
    distance[~(np.isfinite(f64) & np.isfinite(reference))] = math.inf
    worst = int(np.argmax(distance))
    index = tuple(int(k) for k in np.unravel_index(worst, distance.shape))
    max_abs, there = float(distance.flat[worst]), float(reference.flat[worst])
    p50, p90, p99 = (float(share) for share in np.percentile(distance, (50, 90, 99), method="higher"))
    return Difference(
        max_abs=max_abs,
        index=index,
        expected=there,
        found=float(f64.flat[worst]),
        ulps=max_abs / ulp(there),
        p50=p50,
        p90=p90,
        p99=p99,
        tolerance=tolerance,
        passed=math.isfinite(max_abs) and max_abs <= tolerance,
    )


def ulp(value: float) -> float:
    """Return the unit of the last place of float32 at ``value``; at 1 where that is not finite."""
    limited = min(abs(value), _LARGEST) if math.isfinite(value) else 1.0
    return float(np.spacing(np.float32(limited)))


def same_bits(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether two sets of outputs are equal in name, shape and every bit (0.0 and -0.0 differ)."""
    return list(one) == list(other) and all(
        one[name].shape == other[name].shape and one[name].tobytes() == other[name].tobytes() for name in one
    )


def largest_difference(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, float]:
    """Return the largest absolute difference of each output; inf where shapes differ or anything is not finite."""
    return {
        name: measure(one[name], other[name], 0.0).max_abs if one[name].shape == other[name].shape else math.inf
        for name in one
    }
