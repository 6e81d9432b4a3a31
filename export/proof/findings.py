"""What a verification finds: frozen records of legs, cases, growth, errors, control and variants.

Rules of this file: records only; what follows from them is in report.py.
"""

from dataclasses import dataclass
from typing import Final

from .compare import Difference
from .laws import LawResult, is_bitwise, is_streamable

# The leg that is served; its differences are what the tolerances of the manifest come from.
SERVED_LEG: Final = "onnxruntime"


@dataclass(frozen=True, kw_only=True, slots=True)
class LegResult:
    """What one leg gave for one case: a complaint about the form, or a difference for each output that it gives."""

    leg: str
    rows: int
    complaint: str | None
    outputs: dict[str, Difference]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseResult:
    """One case: its shape, which outputs are chaotic in it, and what each leg gave."""

    id: str
    rows: int
    steps: int
    ragged: bool
    state: str
    magnitude: str
    sensitive: tuple[str, ...]
    legs: tuple[LegResult, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LegFact:
    """A leg: its name, why it could not run ("" where it could), and its largest error for each output."""

    name: str
    complaint: str
    max_abs: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """The largest error over all outputs after ``steps`` steps, by leg, and the tolerance there."""

    steps: int
    tolerance: float
    max_abs: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """How many compared values of the served leg have an absolute error in [2^e, 2^(e+1)); ``exact`` are equal."""

    exponents: tuple[int, ...]
    counts: tuple[int, ...]
    exact: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """The served leg against torch.nn itself: largest errors over the whole grid, and 2 * theirs + one ULP.

    ``complaint`` says why there is no control for a network that torch.nn cannot say.
    """

    complaint: str
    ours: dict[str, float]
    theirs: dict[str, float]
    bound: dict[str, float]
    passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantResult:
    """The laws on a variant's graph; its comparisons stand under its leg in every case."""

    file: str
    leg: str
    laws: tuple[LawResult, ...]

    @property
    def streamable(self) -> bool:
        """As of the report."""
        return is_streamable(self.laws)

    def is_bitwise(self, *laws: str) -> bool:
        """As of the report."""
        return is_bitwise(self.laws, laws)


@dataclass(frozen=True, kw_only=True, slots=True)
class Worst:
    """The worst case: where an error used up most of its tolerance, or what failed."""

    case: str
    leg: str
    output: str
    max_abs: float
    tolerance: float
    index: tuple[int, ...]
    ulps: float
    complaint: str | None = None
