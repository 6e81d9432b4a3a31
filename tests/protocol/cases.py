"""The table: requests, right and wrong, and what every wire must answer.

Rules of this file: a case is made from a model's metadata, for any model, or says None where the model has no such
thing. Statuses are HTTP's and gRPC's; sources: the protocol's specifications, for what they leave open docs/http.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .model_facts import ROWS, STEPS, ModelFacts
from .request import Request, Tensor

GOOD = (200, "OK")
WRONG = (400, "INVALID_ARGUMENT")
NOWHERE = (404, "NOT_FOUND")
TOO_LARGE = (413, "RESOURCE_EXHAUSTED")


@dataclass(frozen=True)
class Case:
    """One request and what it must be answered with.

    Attributes:
        make: the request, or None where the model cannot have it.
        expected: status of HTTP and of gRPC.
        says: a word of the error's sentence.
        needs_not_a_number: only a wire that has such values can say it.
        needs_binary: only a wire that carries bytes says it in the way that is meant.
    """

    make: Callable[[ModelFacts], Request | None]
    expected: tuple[int, str]
    says: str = ""
    needs_not_a_number: bool = False
    needs_binary: bool = False


def sequence(facts, **changes):
    """Return a good request with its sequence changed."""
    return facts.request().with_input(facts.sequence, **changes)


def reshaped(facts, shape):
    return sequence(facts, shape=shape(facts.request().inputs[0].shape))


def with_value(facts, value):
    if not facts.datatype.startswith("FP"):
        return None
    elements = facts.request().inputs[0].elements.copy()
    elements.reshape(-1)[-1] = value
    return sequence(facts, elements=elements)


def with_token(facts, token):
    if facts.vocabulary is None:
        return None
    elements = facts.request().inputs[0].elements.copy()
    elements.reshape(-1)[-1] = token
    return sequence(facts, elements=elements)


def with_lengths(facts, lengths, datatype=None):
    if facts.lengths is None:
        return None
    datatype = datatype or facts.inputs[facts.lengths]["datatype"]
    return facts.request().with_more(Tensor.of(facts.lengths, datatype, np.array(lengths)))


def with_states(facts):
    return facts.request().with_more(*(facts.tensor(name) for name in facts.states)) if facts.states else None


def too_large(facts):
    """Twenty million bytes where sixteen times two to the twentieth are taken, in one row."""
    needed = facts.request().inputs[0]
    steps = 20_000_000 // max(needed.elements[:1, :1].nbytes, 1)
    return facts.request(rows=1, steps=steps)


VALID = {
    "as it is": Case(lambda facts: facts.request(), GOOD),
    "one row": Case(lambda facts: facts.request(rows=1), GOOD),
    "as few steps as it takes": Case(lambda facts: facts.request(steps=facts.least), GOOD),
    "many rows": Case(lambda facts: facts.request(rows=64, steps=facts.least + 2), GOOD),
    "with its version": Case(lambda facts: facts.request(version=facts.version), GOOD),
    "with an id": Case(lambda facts: facts.request(id="näh-1"), GOOD),
    "with parameters that mean nothing": Case(
        lambda facts: facts.request(parameters={"mine": "x", "two": 2, "half": 0.5, "yes": True}), GOOD
    ),
    "with priority and timeout": Case(
        lambda facts: facts.request(parameters={"priority": 1, "timeout": 60_000_000}), GOOD
    ),
    "with parameters that say none": Case(
        lambda facts: facts.request(parameters={"sequence_id": 0, "sequence_start": False, "priority": 0}), GOOD
    ),
    "all outputs by name": Case(lambda facts: facts.request(outputs=tuple(facts.outputs)), GOOD),
    "outputs the other way round": Case(lambda facts: facts.request(outputs=tuple(facts.outputs)[::-1]), GOOD),
    "the last output only": Case(lambda facts: facts.request(outputs=tuple(facts.outputs)[-1:]), GOOD),
    "with all lengths": Case(lambda facts: with_lengths(facts, [STEPS] * ROWS), GOOD),
    "with unequal lengths": Case(lambda facts: with_lengths(facts, [STEPS, facts.least]), GOOD),
    "with lengths in the other width": Case(lambda facts: with_lengths(facts, [STEPS, 2], "INT64"), GOOD),
    "with states": Case(with_states, GOOD),
}

INVALID = {
    "unknown model": Case(lambda facts: replace(facts.request(), model="no-such-model"), NOWHERE, "no-such-model"),
    "model named like a path": Case(lambda facts: replace(facts.request(), model="..%2f..%2fetc"), NOWHERE),
    "unknown version": Case(lambda facts: facts.request(version="999"), NOWHERE, "999"),
    "version that is no number": Case(lambda facts: facts.request(version="latest"), NOWHERE, "latest"),
    "a step fewer than it takes": Case(
        lambda facts: facts.request(steps=facts.least - 1) if facts.least > 1 else None, WRONG, "at least"
    ),
    "no inputs": Case(lambda facts: replace(facts.request(), inputs=()), WRONG, "inputs"),
    "unknown input": Case(lambda facts: sequence(facts, name="nothing"), WRONG, "nothing"),
    "one unknown input more": Case(
        lambda facts: facts.request().with_more(Tensor.of("more", "FP32", np.ones((1,), np.float32))), WRONG, "more"
    ),
    "an input twice": Case(lambda facts: facts.request().with_more(facts.request().inputs[0]), WRONG, "twice"),
    "300 inputs": Case(lambda facts: replace(facts.request(), inputs=facts.request().inputs * 300), WRONG, "256"),
    "another datatype": Case(
        lambda facts: sequence(facts, datatype="FP64" if facts.datatype == "FP32" else "FP32"), WRONG, "datatype"
    ),
    "booleans": Case(
        lambda facts: sequence(facts, datatype="BOOL", elements=np.ones((ROWS, STEPS), bool)), WRONG, "datatype"
    ),
    "no word of a datatype": Case(lambda facts: sequence(facts, datatype="FLOAT32"), WRONG, "datatype"),
    "empty datatype": Case(lambda facts: sequence(facts, datatype=""), WRONG, "datatype"),
    "no dimensions": Case(lambda facts: reshaped(facts, lambda shape: ()), WRONG, "shape"),
    "a dimension less": Case(lambda facts: reshaped(facts, lambda shape: shape[1:]), WRONG, "shape"),
    "a dimension more": Case(lambda facts: reshaped(facts, lambda shape: (*shape, 1)), WRONG, "shape"),
    "nine dimensions": Case(lambda facts: reshaped(facts, lambda shape: (*shape, *[1] * 9)), WRONG, "shape"),
    "no rows": Case(lambda facts: reshaped(facts, lambda shape: (0, *shape[1:])), WRONG, "shape"),
    "no steps": Case(lambda facts: reshaped(facts, lambda shape: (shape[0], 0, *shape[2:])), WRONG, "shape"),
    "a negative dimension": Case(lambda facts: reshaped(facts, lambda shape: (-1, *shape[1:])), WRONG, "shape"),
    "2**31 rows": Case(lambda facts: reshaped(facts, lambda shape: (2**31, *shape[1:])), WRONG, "shape"),
    "2**62 steps": Case(lambda facts: reshaped(facts, lambda shape: (shape[0], 2**62, *shape[2:])), WRONG, "shape"),
    "dimensions whose product wraps round": Case(
        lambda facts: reshaped(facts, lambda shape: (2**4, 2**60 + 2, *shape[2:])), WRONG, "shape"
    ),
    "a trillion elements said, four bytes sent": Case(
        lambda facts: sequence(
            facts, shape=(10**6, 10**6, *facts.request().inputs[0].shape[2:]), elements=np.ones(1, np.float32)
        ),
        WRONG,
        "shape",
    ),
    "too few elements": Case(
        lambda facts: sequence(facts, elements=facts.request().inputs[0].elements.reshape(-1)[:-1]), WRONG, "expected"
    ),
    "too many elements": Case(
        lambda facts: sequence(facts, elements=np.tile(facts.request().inputs[0].elements.reshape(-1), 2)),
        WRONG,
        "expected",
    ),
    "no elements": Case(
        lambda facts: sequence(facts, elements=facts.request().inputs[0].elements.reshape(-1)[:0]), WRONG, "expected"
    ),
    "NaN": Case(lambda facts: with_value(facts, np.nan), WRONG, "finite", needs_not_a_number=True),
    "infinity": Case(lambda facts: with_value(facts, np.inf), WRONG, "finite", needs_not_a_number=True),
    "a token below the vocabulary": Case(lambda facts: with_token(facts, -1), WRONG, "values in"),
    "a token above the vocabulary": Case(lambda facts: with_token(facts, facts.vocabulary), WRONG, "values in"),
    "a length of zero": Case(lambda facts: with_lengths(facts, [STEPS, 0]), WRONG, "lengths"),
    "a negative length": Case(lambda facts: with_lengths(facts, [STEPS, -3]), WRONG, "lengths"),
    "a length beyond the steps": Case(lambda facts: with_lengths(facts, [STEPS, STEPS + 1]), WRONG, "lengths"),
    "a length beyond 32 bits": Case(lambda facts: with_lengths(facts, [STEPS, 2**40], "INT64"), WRONG, "lengths"),
    "fewer lengths than rows": Case(lambda facts: with_lengths(facts, [STEPS]), WRONG, "lengths"),
    "unknown output": Case(lambda facts: facts.request(outputs=("nothing",)), WRONG, "nothing"),
    "an output twice": Case(lambda facts: facts.request(outputs=tuple(facts.outputs)[:1] * 2), WRONG, "twice"),
    "300 outputs": Case(lambda facts: facts.request(outputs=("y",) * 300), WRONG, "256"),
    "an id of 2000 characters": Case(lambda facts: facts.request(id="x" * 2000), WRONG, "id"),
    "priority below zero": Case(lambda facts: facts.request(parameters={"priority": -1}), WRONG, "priority"),
    "priority in words": Case(lambda facts: facts.request(parameters={"priority": "high"}), WRONG, "priority"),
    "half a microsecond": Case(lambda facts: facts.request(parameters={"timeout": 0.5}), WRONG, "timeout"),
    "a reserved parameter": Case(lambda facts: facts.request(parameters={"triton_x": 1}), WRONG, "triton_x"),
    "shared memory": Case(
        lambda facts: facts.request(parameters={"shared_memory_region": "/x"}), WRONG, "shared_memory_region"
    ),
    "more rows than are taken": Case(lambda facts: facts.request(rows=1025, steps=1), WRONG, "rows"),
    "too large": Case(too_large, TOO_LARGE, needs_binary=True),
}
