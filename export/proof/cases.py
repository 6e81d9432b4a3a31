"""The grid of cases: batches, lengths, states and magnitudes that the example input did not have.

Rules of this file: pure; a case is a few numbers and a seed, so that any single one can be run again by its name.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ...bundle.axes import sizes_of
from ...bundle.columns import nearest_allowed
from ...bundle.manifest import GraphSignature

Array = NDArray[np.generic]
Magnitude = Literal["normal", "zeros", "denormal", "saturated"]
StateKind = Literal["zero", "random", "large"]

DRIFT_STEPS: Final = 10_000
# Unlike each other, and all well conditioned: the manifest has one tolerance an output, the widest of these cases, and
# a saturated one would open it a hundredfold for all.
_GOLDEN: Final = (
    (1, 1, ""),
    (3, 7, "-random"),
    (3, 7, "-ragged-random"),
    (5, 17, ""),
    (5, 17, "-ragged"),
    (2, 24, "-zeros"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One batch.

    Attributes:
        id: its name, unique within the grid; also the seed of its values.
        rows: B.
        steps: T.
        ragged: whether rows have unequal lengths (least .. T, the first row T).
        state: zeros, standard normal, or 16 times that.
        least: fewest steps of a row.
        magnitude: of the sequence: standard normal; all zero; below the smallest normal float32; 1e4 times normal,
            where gates saturate.
    """

    id: str
    rows: int
    steps: int
    ragged: bool = False
    state: StateKind = "zero"
    magnitude: Magnitude = "normal"
    least: int = 1


def grid(
    signature: GraphSignature, *, drift_steps: int = DRIFT_STEPS, further_steps: Iterable[int] = ()
) -> tuple[Case, ...]:
    """Return the cases that fit the signature: ragged ones where it takes lengths, states where it takes states.

    Together they hold more than a thousand random sequences. Where the network needs several steps, each case has as
    many more, so that the shortest has the fewest that it takes; where it takes no more than so many, none has more.

    Args:
        signature: of the graph.
        drift_steps: of the longest sequence.
        further_steps: numbers of steps that are to be among the cases.
    """
    least = signature.least_steps
    ragged_kinds = (False, True) if signature.lengths is not None else (False,)
    states: tuple[StateKind, ...] = ("zero", "random", "large") if signature.state else ("zero",)
    cases = list(_plain_cases(signature, ragged_kinds, states))
    magnitudes: tuple[Magnitude, ...] = ("zeros", "denormal", "saturated")
    if signature.vocabulary_size is None:
        cases += [
            Case(
                id=f"B2-T{23 + least}-{kind}{'-ragged' * ragged}",
                rows=2,
                steps=23 + least,
                ragged=ragged,
                least=least,
                magnitude=kind,
                state=states[-1 if kind == "saturated" else 0],
            )
            for kind in magnitudes
            for ragged in ragged_kinds
        ]
    suffix, ragged = "-ragged" * (len(ragged_kinds) - 1), len(ragged_kinds) > 1
    cases.append(Case(id=f"B256-T{11 + least}{suffix}", rows=256, steps=11 + least, ragged=ragged, least=least))
    cases.append(Case(id=f"B720-T{2 + least}", rows=720, steps=2 + least, least=least))
    longest = signature.at_most(max(drift_steps, least))
    had = {case.steps for case in cases} | {longest}
    cases += [Case(id=f"B2-T{steps}", rows=2, steps=steps, least=least) for steps in further_steps if steps not in had]
    cases.append(Case(id=f"B1-T{longest}", rows=1, steps=longest, least=least))
    return tuple(case for case in cases if case.steps <= signature.at_most(case.steps))


def _plain_cases(
    signature: GraphSignature, ragged_kinds: tuple[bool, ...], states: tuple[StateKind, ...]
) -> Iterator[Case]:
    least = signature.least_steps
    for rows, count in ((1, 1), (1, 2), (1, 17), (2, 1), (2, 2), (3, 7), (5, 17), (7, 33), (32, 64), (2, 300)):
        steps = signature.at_most(count + least - 1)
        for ragged in ragged_kinds:
            if ragged and (rows == 1 or steps == least):
                continue
            for state in states if rows * count <= 32 * 64 else states[:1]:  # the largest that is quick
                suffix = "-ragged" * ragged + ("" if state == "zero" else f"-{state}")
                yield Case(
                    id=f"B{rows}-T{steps}{suffix}", rows=rows, steps=steps, ragged=ragged, state=state, least=least
                )


def golden_cases(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return the cases whose inputs and outputs are stored in the bundle: small, and unlike each other."""
    more = cases[0].least - 1 if cases else 0
    names = {f"B{rows}-T{steps + more}{suffix}" for rows, steps, suffix in _GOLDEN}
    chosen = [case for case in cases if case.id in names]
    return tuple(chosen) if len(chosen) > 1 else tuple(cases[:3])


def make_inputs(case: Case, signature: GraphSignature) -> dict[str, Array]:
    """Return the arrays of a case, by input name, in graph order; the same for the same case everywhere."""
    random = np.random.default_rng([ord(letter) for letter in case.id])
    inputs: dict[str, Array] = {}
    for spec in signature.inputs:
        shape = sizes_of(spec.shape, case.rows, case.steps)
        if spec.name == signature.lengths:
            inputs[spec.name] = _lengths(case, random)
        elif spec.dtype == "int64":
            inputs[spec.name] = random.integers(0, signature.vocabulary_size or 1, shape, dtype=np.int64)
        elif spec.name == signature.sequence:
            drawn = _sequence(case.magnitude, random.standard_normal(shape, dtype=np.float32))
            inputs[spec.name] = nearest_allowed(signature.columns, drawn)
        else:
            inputs[spec.name] = _state(spec.name, case.state, random.standard_normal(shape, dtype=np.float32))
    return inputs


def _lengths(case: Case, random: np.random.Generator) -> Array:
    lengths = np.full(case.rows, case.steps, dtype=np.int32)
    if case.ragged:
        lengths[1:] = random.integers(case.least, case.steps + 1, case.rows - 1)
        lengths[-1] = case.least
    return lengths


def _sequence(magnitude: Magnitude, normal: NDArray[np.float32]) -> Array:
    factor = {"normal": 1.0, "zeros": 0.0, "denormal": 1e-40, "saturated": 1e4}[magnitude]
    return (normal * np.float32(factor)).astype(np.float32)


def _state(name: str, kind: StateKind, normal: NDArray[np.float32]) -> Array:
    if kind == "zero":
        return np.zeros_like(normal)
    if name.startswith("count"):  # steps seen so far: a whole number
        return np.full_like(normal, 3.0)
    return (normal * np.float32(16.0 if kind == "large" else 1.0)).astype(np.float32)
