"""Laws that hold between runs of the same graph, whatever it computes: rows, padding, order and chunks do not matter.

Each law is measured twice: as a difference that must be within the tolerance, and as a question of bits, whose answer
is published with the bundle. The runtime's maintainers promise neither; here they are found.

Rules of this file: it runs one leg against itself and needs no oracle but the tolerance.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from ...bundle.axes import over_time
from ...bundle.manifest import GraphSignature
from ..error_line import said_by
from .cases import Case, StateKind, make_inputs
from .compare import Array, largest_difference, same_bits
from .leg import Leg
from .oracle import Judge

SPLIT_STEPS: Final = 24
RANDOM_SPLITS: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class LawResult:
    """What was found for one law.

    Attributes:
        name: "alone", "padding", "order" or "chunks".
        statement: the law in words.
        applies: whether the signature allows the comparison.
        comparisons: how many were made.
        max_abs: the largest absolute difference over all outputs; of those beyond their tolerance where any is.
        tolerance: the largest allowed where max_abs was found.
        passed: every difference within its tolerance.
        bitwise: no comparison differed in a single bit.
        complaint: what stopped the implementation, so that it broke the law and nothing was compared; "" where it ran.
    """

    name: str
    statement: str
    applies: bool
    comparisons: int = 0
    max_abs: float = 0.0
    tolerance: float = 0.0
    passed: bool = True
    bitwise: bool = True
    complaint: str = ""


_STATEMENTS: Final = {
    "alone": "a row gives the same alone and among other rows",
    "padding": "a row gives the same with and without padding",
    "order": "rows in another order give the same in that order",
    "chunks": "a sequence in chunks with carried state gives the same as in one pass",
}

# By these names reports speak of the laws as of cases, and they can be run again alone.
LAW_CASES: Final = tuple(f"laws-{name}" for name in _STATEMENTS)

Pair = tuple[dict[str, Array], dict[str, Array], Case]


def check_laws(leg: Leg, signature: GraphSignature, oracle: Judge) -> tuple[LawResult, ...]:
    """Check every law that the signature allows on ``leg``."""
    state: StateKind = "random" if signature.state else "zero"
    ragged = signature.lengths is not None
    least = signature.least_steps
    case = Case(id="laws-rows", rows=7, steps=16 + least, ragged=ragged, state=state, least=least)
    ran = {
        "alone": _run(_alone(leg, signature, case, padded=True)),
        "padding": _run(_alone(leg, signature, case, padded=False)) if ragged else ([], ""),
        "order": _run(_permuted(leg, signature, case)),
        "chunks": _run(_chunked(leg, signature)) if signature.state else ([], ""),
    }
    cases = {pair[2] for group, _ in ran.values() for pair in group}
    allowed = {each: oracle.truth(make_inputs(each, signature)).tolerances for each in cases}
    return tuple(
        _broken(name, complaint) if complaint else _judge(name, group, allowed)
        for name, (group, complaint) in ran.items()
    )


def _run(pairs: Iterator[Pair]) -> tuple[list[Pair], str]:
    """Return what is to be compared, or what stopped the implementation."""
    try:
        return list(pairs), ""
    except Exception as err:  # noqa: BLE001 - whatever stops an implementation is a finding about it
        return [], f"stopped with {said_by(err)}"


def _broken(name: str, complaint: str) -> LawResult:
    return LawResult(
        name=name,
        statement=_STATEMENTS[name],
        applies=True,
        max_abs=math.inf,
        passed=False,
        bitwise=False,
        complaint=complaint,
    )


def _judge(name: str, pairs: list[Pair], allowed: Mapping[Case, Mapping[str, float]]) -> LawResult:
    if not pairs:
        return LawResult(name=name, statement=_STATEMENTS[name], applies=False, bitwise=False)
    broken, worst, tolerance, bitwise = False, 0.0, 0.0, True
    for one, other, case in pairs:
        bitwise = bitwise and same_bits(one, other)
        for output, difference in largest_difference(one, other).items():
            limit = allowed[case][output]
            # What breaks the law comes before what differs more and may.
            broken, worst, tolerance = max((broken, worst, tolerance), (not difference <= limit, difference, limit))
    return LawResult(
        name=name,
        statement=_STATEMENTS[name],
        applies=True,
        comparisons=len(pairs),
        max_abs=worst,
        tolerance=tolerance,
        passed=not broken,
        bitwise=bitwise,
    )


def is_streamable(laws: Iterable[LawResult]) -> bool:
    """Whether chunks with carried state gave what one pass gives."""
    return any(law.name == "chunks" and law.applies and law.passed for law in laws)


def is_bitwise(laws: Iterable[LawResult], names: Collection[str]) -> bool:
    """Whether all of the laws named hold to the last bit, those that do not apply left aside."""
    found = [law for law in laws if law.name in names and law.applies]
    return bool(found) and all(law.bitwise for law in found)


def take_rows(arrays: Mapping[str, Array], rows: list[int], signature: GraphSignature) -> dict[str, Array]:
    """Return the given rows of inputs or outputs."""
    specs = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
    return {
        name: np.ascontiguousarray(array.take(rows, axis=specs[name].shape.index("B")))
        for name, array in arrays.items()
    }


def take_steps(arrays: Mapping[str, Array], first: int, last: int, signature: GraphSignature) -> dict[str, Array]:
    """Return steps first .. last - 1 of whatever has a step axis; lengths, where there are any, become last - first.

    Of outputs with fewer steps than the sequence, those that the last of them adds to what the first leave.
    """
    specs = {spec.name: spec for spec in (*signature.inputs, *signature.outputs)}
    taken = dict(arrays)
    for name, array in arrays.items():
        axis = over_time(specs[name].shape)
        if axis is not None:
            taken[name] = np.ascontiguousarray(array[:, axis.size(first) : axis.size(last)])
    if signature.lengths in taken:
        taken[signature.lengths] = np.full_like(taken[signature.lengths], last - first)
    return taken


def _alone(leg: Leg, signature: GraphSignature, case: Case, *, padded: bool) -> Iterator[Pair]:
    inputs = make_inputs(case, signature)
    batch = leg.run(inputs)
    for row in range(case.rows):
        alone = take_rows(inputs, [row], signature)
        expected = take_rows(batch, [row], signature)
        if not padded and signature.lengths is not None:
            steps = int(inputs[signature.lengths][row])
            alone = take_steps(alone, 0, steps, signature)
            expected = take_steps(expected, 0, steps, signature)
        yield leg.run(alone), expected, case


def _permuted(leg: Leg, signature: GraphSignature, case: Case) -> Iterator[Pair]:
    inputs = make_inputs(case, signature)
    batch = leg.run(inputs)
    for seed in range(3):
        order = [int(k) for k in np.random.default_rng(seed).permutation(case.rows)]
        yield leg.run(take_rows(inputs, order, signature)), take_rows(batch, order, signature), case


def splits(steps: int = SPLIT_STEPS, random_splits: int = RANDOM_SPLITS) -> Iterator[list[int]]:
    """Yield the cuts [0, ..., steps]: every split in two, then random ones into three and more."""
    yield from ([0, cut, steps] for cut in range(1, steps))
    random = np.random.default_rng(0)
    for _ in range(random_splits):
        count = int(random.integers(2, steps))
        cuts = random.choice(np.arange(1, steps), size=count, replace=False)
        yield [0, *sorted(int(cut) for cut in cuts), steps]


def _chunked(leg: Leg, signature: GraphSignature) -> Iterator[Pair]:
    case = Case(id="laws-chunks", rows=2, steps=SPLIT_STEPS, state="random")
    inputs = make_inputs(case, signature)
    whole = leg.run(inputs)
    for cuts in splits():
        yield run_in_chunks(leg, inputs, cuts, signature), whole, case


def run_in_chunks(
    leg: Leg, inputs: Mapping[str, Array], cuts: list[int], signature: GraphSignature
) -> dict[str, Array]:
    """Run chunk by chunk, each from the state that the one before left; y is joined, or is the last chunk's."""
    carried = {pair.input: inputs[pair.input] for pair in signature.state}
    parts: list[Array] = []
    outputs: dict[str, Array] = {}
    for first, last in pairwise(cuts):
        outputs = leg.run({**take_steps(inputs, first, last, signature), **carried})
        carried = {pair.input: outputs[pair.output] for pair in signature.state}
        parts.append(outputs[signature.outputs[0].name])
    if over_time(signature.outputs[0].shape):
        outputs[signature.outputs[0].name] = np.concatenate(parts, axis=1)
    return outputs
