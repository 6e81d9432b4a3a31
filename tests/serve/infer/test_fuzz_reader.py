"""What the pure reader does with bodies that nobody meant: a work that the engine may trust, or one plain sentence.

No server and no loop, so that many fit into little time; the counts of all fuzz tests together are in
tests/security/README.md.
"""

import json
import random

import numpy as np
import pytest

from cellgate.serve.errors import BadInput
from cellgate.serve.infer.infer_request import RequestReader
from cellgate.serve.settings import Settings

BODIES = 3000  # each of the four seeds
NUMBERS = [0, 1, 2, 3, -1, 2**31 - 1, 2**31, 2**63, 2**64, 10**12, 1.5, 1e308, True, False, None, "1", "", [], {}]
WORDS = ["x", "tokens", "lengths", "h0", "y", "FP32", "FP16", "INT64", "BYTES", "\x00", "a" * 2000, "δ", "shape"]


def valid(values):
    """A request for "steps" as a value of JSON."""
    B, T = values.randint(1, 3), values.randint(1, 4)
    inputs = [{"name": "x", "shape": [B, T, 2], "datatype": "FP32", "data": np.ones((B, T, 2)).tolist()}]
    if values.random() < 0.5:
        inputs.append({"name": "lengths", "shape": [B], "datatype": "INT32", "data": [T] * B})
    if values.random() < 0.3:
        inputs.append({"name": "h0", "shape": [1, B, 3], "datatype": "FP32", "data": [0.0] * (3 * B)})
    return {"inputs": inputs, "id": "a", "parameters": {"priority": 1}, "outputs": [{"name": "y"}]}


def somewhere(values, value):
    """Return a container inside a value, and one of its keys."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return None
        key = values.choice(keys)
        if not isinstance(value[key], dict | list) or not value[key] or values.random() < 0.3:
            return value, key
        value = value[key]


def mutate(values, request):
    found = somewhere(values, request)
    if found is None:
        return
    target, key = found
    kind = values.randrange(5)
    if kind == 0:
        target[key] = values.choice(NUMBERS)
    elif kind == 1:
        target[key] = values.choice(WORDS)
    elif kind == 2:
        target.pop(key)
    elif kind == 3:
        target[key] = [target[key]] * values.randint(0, 3)
    elif isinstance(target, dict):
        target[values.choice(WORDS)] = target[key]
    else:
        target.append(target[key])


def body_of(values):
    """Return a body, the length of its head or None, and whether nothing was done to it."""
    request = valid(values)
    mutations = values.choice([0, 1, 1, 1, 2, 3])
    for _ in range(mutations):
        mutate(values, request)
    text = json.dumps(request).encode()
    kind = values.randrange(8)
    if kind == 0:
        at = values.randrange(len(text) + 1)
        text = text[:at] + values.randbytes(values.randint(0, 4)) + text[at + values.randint(0, 3) :]
    if kind == 1:
        return text + values.randbytes(values.choice([0, 1, 16])), values.choice([len(text), 0, 1, 10**9]), False
    return text, None, mutations == 0 and kind > 1


@pytest.mark.parametrize("seed", range(4))
def test_mutated_bodies_are_read_or_refused_in_one_sentence(served_models, seed):
    values = random.Random(seed)
    reader = RequestReader(served_models["steps"], Settings(max_steps=64, max_batch_rows=64).limits)
    read, refusals = 0, []
    for _ in range(BODIES):
        body, head_bytes, is_valid = body_of(values)
        try:
            work, form = reader.read(body, head_bytes)
        except BadInput as err:
            refusals.append((is_valid, str(err)))
        else:
            assert work.sequence.dtype == np.float32
            assert work.sequence.shape[2] == 2
            assert 1 <= work.lengths.min() <= work.lengths.max() <= work.sequence.shape[1] <= 64
            assert np.isfinite(work.sequence).all()
            assert set(form.names) <= {"y", "h_n", "c_n"}
            read += 1
    assert BODIES // 20 < read == BODIES - len(refusals)
    assert not [text for is_valid, text in refusals if is_valid or "\n" in text or len(text) > 700]
