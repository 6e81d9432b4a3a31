"""How long the sequences of a load are: fixed, uniform, lognormal, or as listed in a file.

Rules of this file: pure but for reading the file that a description names; a description and a seed give the same
lengths on every machine. A length is a number of time steps, 1 .. MAX_STEPS.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import LengthsError
from .length_file import read_lengths

MAX_STEPS: Final = 2**24
# Three ragged workloads: short fixed-rate windows, sentences, documents.
PRESETS: Final[Mapping[str, str]] = MappingProxyType(
    {"small": "uniform:7-29", "medium": "lognormal:40,0.8,5-300", "large": "lognormal:120,0.6,20-500"}
)
FORMS: Final = (
    "fixed:N, uniform:LOW-HIGH, lognormal:MEDIAN,SIGMA or lognormal:MEDIAN,SIGMA,LOW-HIGH, file:PATH or "
    "file:PATH:COLUMN, or one of " + ", ".join(PRESETS)
)
_MAX_SIGMA: Final = 5.0
_DEFAULT_HIGH: Final = 65_536  # the longest row that a server takes by default
_RANGE: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


class Lengths(Protocol):
    """A distribution of lengths."""

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        """Return `count` lengths, int64 [count], each in 1 .. MAX_STEPS; equal seeds give equal lengths."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Every sequence has `steps` steps."""

    steps: int

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:  # noqa: ARG002 - there is nothing to draw
        """Return `count` times the same length."""
        return np.full(count, self.steps, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every length in low .. high, both included, is as likely as another."""

    low: int
    high: int

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        """Return `count` lengths."""
        return np.random.default_rng(seed).integers(self.low, self.high + 1, count)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """The logarithm is normal with mean ln(median) and deviation sigma; rounded, then clipped to low .. high."""

    median: float
    sigma: float
    low: int
    high: int

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        """Return `count` lengths."""
        drawn = np.random.default_rng(seed).lognormal(math.log(self.median), self.sigma, count)
        return np.rint(np.clip(drawn, self.low, self.high)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Listed:
    """The lengths of a file, each as often as any other, give or take one, in an order drawn anew for each pass."""

    values: tuple[int, ...]

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        """Return `count` lengths."""
        random = np.random.default_rng(seed)
        values = np.array(self.values, dtype=np.int64)
        passes = [random.permutation(values) for _ in range(-(-count // values.size))]
        return np.concatenate(passes)[:count] if passes else values[:0]


def parse_lengths(text: str) -> Lengths:
    """Read a description of lengths.

    Args:
        text: fixed:N, uniform:LOW-HIGH, lognormal:MEDIAN,SIGMA[,LOW-HIGH], file:PATH[:COLUMN], or a preset's name.

    Raises:
        LengthsError: no such description, a number out of its range, or a file without lengths.
    """
    kind, colon, rest = PRESETS.get(text, text).partition(":")
    if kind == "fixed" and colon:
        return Fixed(_steps(text, rest))
    if kind == "uniform" and colon:
        return Uniform(*_range(text, rest))
    if kind == "lognormal" and colon:
        return _lognormal(text, rest)
    if kind == "file" and colon and rest:
        return Listed(read_lengths(text, rest, MAX_STEPS))
    raise LengthsError(text, FORMS, "none of them")


def _lognormal(text: str, rest: str) -> LogNormal:
    parts = rest.split(",")
    if len(parts) not in (2, 3):
        raise LengthsError(text, "lognormal:MEDIAN,SIGMA or lognormal:MEDIAN,SIGMA,LOW-HIGH", f"{len(parts)} parts")
    median, sigma = _number(text, "MEDIAN", parts[0], 1, MAX_STEPS), _number(text, "SIGMA", parts[1], 0, _MAX_SIGMA)
    low, high = _range(text, parts[2]) if len(parts) == 3 else (1, max(_DEFAULT_HIGH, math.ceil(median)))  # noqa: PLR2004
    return LogNormal(median, sigma, low, high)


def _number(text: str, what: str, part: str, low: float, high: float) -> float:
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise LengthsError(text, f"{what} in {low:g} .. {high:g}", repr(part))
    return value


def _steps(text: str, part: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", part) or not 1 <= int(part) <= MAX_STEPS:
        raise LengthsError(text, f"a length in 1 .. {MAX_STEPS}", repr(part))
    return int(part)


def _range(text: str, part: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(part)
    low, high = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= low <= high <= MAX_STEPS:
        raise LengthsError(text, f"LOW-HIGH with 1 <= LOW <= HIGH <= {MAX_STEPS}", repr(part))
    return low, high


def check_steps(text: str, drawn: NDArray[np.int64], least_steps: int, most_steps: int | None = None) -> None:
    """Raise LengthsError where a length is below or above what the network takes.

    Args:
        text: the description that the lengths were drawn from.
        drawn: int64 [N].
        least_steps: of the network.
        most_steps: of the network; None: any number.
    """
    if drawn.size and drawn.min() < least_steps:
        found = f"{drawn.min()}; look at --lengths"
        raise LengthsError(text, f"lengths of at least {least_steps}, which the network needs", found)
    if drawn.size and most_steps is not None and drawn.max() > most_steps:
        found = f"{drawn.max()}; look at --lengths"
        raise LengthsError(text, f"lengths of at most {most_steps}, for the network takes no more", found)


def fit(text: str, lengths: Lengths, least_steps: int, most_steps: int | None = None) -> tuple[Lengths, str]:
    """Return lengths for a network and what to call them: those of a preset begin and end where the network's do.

    Args:
        text: the description that the lengths were read from.
        lengths: read from it.
        least_steps: of the network.
        most_steps: of the network; None: any number.
    """
    if text not in PRESETS:
        return lengths, text
    name = f"{text} ({PRESETS[text]})"
    if not isinstance(lengths, Uniform | LogNormal):
        return lengths, name
    if lengths.low < least_steps:
        lengths = replace(lengths, low=least_steps, high=max(lengths.high, least_steps))
        name += f", from {least_steps} steps on"
    if most_steps is not None and lengths.high > most_steps:
        lengths = replace(lengths, low=min(lengths.low, most_steps), high=most_steps)
        name += f", up to {most_steps} steps"
    return lengths, name
