"""Sequences with Triton's own client, unchanged: what comes in chunks gives what the whole gives, to the last bit.

`sequence_step`, which makes a chunk count once, is this server's own; where the server does not keep sequences, or the
model cannot be cut, the tests skip.
"""

import itertools
import secrets

import numpy as np
import pytest

from .rest_wire import RestWire

for part in ("grpc", "http", "utils"):
    pytest.importorskip(f"tritonclient.{part}", exc_type=(ImportError, RuntimeError))
tritonclient = pytest.importorskip("tritonclient")

STEPS = 6


@pytest.fixture
def facts(models, http):
    if "sequence" not in http.get("/v2").json()["extensions"]:
        pytest.skip("the server keeps no sequences")
    for found in models:
        properties = http.get(f"/v2/models/{found.name}").json().get("properties", {})
        if properties.get("streamable") == "true" and found.datatype == "FP32":
            return found
    pytest.skip("no model here can be cut")


@pytest.fixture(params=["http", "grpc"])
def ask(request, target, facts):
    """Send steps first .. stop - 1 of one sequence; returns the client's result."""
    module, address = getattr(tritonclient, request.param), {"http": target[0].partition("://")[2], "grpc": target[1]}
    if address[request.param] is None:
        pytest.skip("--grpc: no address was given")
    whole = facts.request(rows=1, steps=STEPS)
    client = module.InferenceServerClient(address[request.param])

    def send(first, stop, **parameters):
        (tensor,) = whole.inputs
        x = np.ascontiguousarray(tensor.elements[:, first:stop])
        made = module.InferInput(tensor.name, list(x.shape), tensor.datatype)
        made.set_data_from_numpy(x)
        return client.infer(facts.name, [made], **parameters)

    yield send
    client.close()


@pytest.fixture
def expected(facts, http):
    return RestWire(http, "flat").infer(facts.request(rows=1, steps=STEPS)).outputs


def a_name(kind):
    return secrets.randbits(48) if kind is int else secrets.token_hex(8)


def refused(call):
    with pytest.raises(tritonclient.utils.InferenceServerException) as found:
        call()
    return str(found.value)


@pytest.mark.parametrize("kind", [int, str])
def test_chunks_of_a_sequence_give_what_the_whole_gives(ask, expected, facts, kind):
    name, edges = a_name(kind), (0, 1, 4, STEPS)
    found = [
        ask(first, stop, sequence_id=name, sequence_start=first == 0, sequence_end=stop == STEPS)
        for first, stop in itertools.pairwise(edges)
    ]

    for output, wanted in expected.items():
        parts = [result.as_numpy(output) for result in found]
        is_per_step = facts.outputs[output]["shape"].count(-1) > 1
        np.testing.assert_array_equal(np.concatenate(parts, axis=1) if is_per_step else parts[-1], wanted)


def test_a_step_that_is_repeated_counts_once(ask, expected, facts):
    name = a_name(str)
    ask(0, 3, sequence_id=name, sequence_start=True, parameters={"sequence_step": 0})
    ask(0, 3, sequence_id=name, sequence_start=True, parameters={"sequence_step": 0})
    last = ask(3, STEPS, sequence_id=name, sequence_end=True, parameters={"sequence_step": 1})
    again = ask(3, STEPS, sequence_id=name, sequence_end=True, parameters={"sequence_step": 1})

    for output, wanted in expected.items():
        found = last.as_numpy(output)
        np.testing.assert_array_equal(again.as_numpy(output), found)
        is_per_step = facts.outputs[output]["shape"].count(-1) > 1
        np.testing.assert_array_equal(found, wanted[:, 3:] if is_per_step else wanted)


def test_a_sequence_that_nobody_began_is_refused(ask):
    assert "expected" in refused(lambda: ask(0, 2, sequence_id=a_name(int)))


def test_a_step_that_is_not_the_next_one_is_refused(ask):
    name = a_name(str)
    ask(0, 1, sequence_id=name, sequence_start=True, parameters={"sequence_step": 0})

    assert "step" in refused(lambda: ask(1, 2, sequence_id=name, parameters={"sequence_step": 7}))


def test_a_flag_without_a_sequence_is_refused(ask):
    assert "sequence_id" in refused(lambda: ask(0, 1, parameters={"sequence_step": 0}))
