"""What is said to an export: the name of the bundle, what the network's arrays mean, how much to verify."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .foreign.columns import Column
from .proof.verify import VerifyOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What the bundle is called and what is said about it.

    Attributes:
        name: see bundle.manifest.NAME_PATTERN.
        version: positive.
        labels: names of the O classes, or None.
        normalisation: {"mean": [I], "std": [I]} that callers must apply to x beforehand, or None.
        told: argument names of a foreign module's forward for the roles sequence, lengths, mask and state.
        input_dim: I of a foreign module, where it cannot be found.
        answer: which of the tensors that a foreign module's forward returns is y, by its name; None for the first.
        columns: arguments of a foreign module's forward that are cut out of x; None: one argument is x.
        float64_gates: whether the graph computes gates and states in float64: slower, see docs/equivalence.md.
        origin: what the network was made of, for people: "source" and "weights", as Source.origin gives them.
        overwrite: whether an existing bundle may be replaced.
        verify: how much to verify.
    """

    name: str
    version: int = 1
    labels: tuple[str, ...] | None = None
    normalisation: Mapping[str, tuple[float, ...]] | None = None
    told: Mapping[str, str] | None = None
    input_dim: int | None = None
    answer: str | None = None
    columns: Sequence[Column] | None = None
    float64_gates: bool = False
    origin: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False
    verify: VerifyOptions = field(default_factory=VerifyOptions)
