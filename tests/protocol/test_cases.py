"""Every case of the table over every wire and for every model: the same verdict, and the same values."""

import re

import numpy as np
import pytest

from .cases import INVALID, VALID
from .model_facts import STEPS
from .rest_wire import RestWire

# What no sentence for a client holds: traces of the program, of its files, of its processes.
INSIDES = re.compile(r"Traceback|File \"|\.py\b|site-packages|/home/|/root/|/tmp/|0x[0-9a-f]{6,}|\bpid\b|onnxruntime")


def requests_of(case, models):
    made = [(facts, case.make(facts)) for facts in models]
    found = [(facts, request) for facts, request in made if request is not None]
    if not found:
        pytest.skip("no model has such a thing")
    return found


@pytest.fixture
def reference(http):
    """The wire with which the others are compared: JSON, which everybody can read."""
    return RestWire(http, "flat")


@pytest.mark.parametrize("name", VALID)
def test_a_good_request_is_answered_alike_by_every_wire(name, wire, reference, models):
    for facts, request in requests_of(VALID[name], models):
        answer, expected = wire.infer(request), reference.infer(request)

        assert answer.is_good, answer.error
        assert answer.fields == expected.fields
        assert answer.fields["model_name"] == facts.name
        assert answer.fields.get("id", "") == request.id
        assert list(answer.outputs) == list(expected.outputs)
        for output, array in answer.outputs.items():
            assert array.dtype == expected.outputs[output].dtype
            np.testing.assert_array_equal(array, expected.outputs[output])


@pytest.mark.parametrize("name", VALID)
def test_an_answer_has_the_outputs_and_shapes_that_metadata_promises(name, wire, models):
    for facts, request in requests_of(VALID[name], models):
        answer = wire.infer(request)
        rows, steps = request.inputs[0].shape[:2]
        expected = request.outputs or [output for output in facts.outputs if output not in facts.on_request]

        assert list(answer.outputs) == list(expected)
        for output, array in answer.outputs.items():
            free = iter((rows, steps))
            shape = [next(free) if axis == -1 else axis for axis in facts.outputs[output]["shape"]]
            assert list(array.shape) == shape
            assert np.isfinite(array).all()


@pytest.mark.parametrize("name", INVALID)
def test_a_wrong_request_is_refused_with_its_status_and_a_sentence(name, wire, is_rpc, models):
    case = INVALID[name]
    if case.needs_not_a_number and not wire.can_say_not_a_number:
        pytest.skip("JSON has no such number")
    if case.needs_binary and wire._form not in ("binary", "raw", "stream"):
        pytest.skip("of bytes")
    if case.needs_binary and wire._form == "stream":
        pytest.skip("a message above the limit ends its whole stream")
    for _, request in requests_of(case, models):
        answer = wire.infer(request)

        assert answer.status == case.expected[is_rpc], f"{request.model}: {answer.error or 'answered'}"
        assert answer.error
        assert "\n" not in answer.error
        assert not INSIDES.search(answer.error)
        if not case.needs_binary:  # there the transport itself speaks
            assert case.says in answer.error


def test_the_server_answers_after_all_of_them(wire, models):
    for facts in models:
        assert wire.infer(facts.request()).is_good


def test_a_row_has_the_same_values_whatever_its_request_looks_like(wire, models):
    for facts in models:
        if facts.lengths is None:
            continue
        request = facts.request(rows=3, steps=STEPS)
        whole = wire.infer(request)
        for row in range(3):
            part = request.inputs[0].elements[row : row + 1]
            alone = wire.infer(request.with_input(facts.sequence, shape=part.shape, elements=part))
            for output, array in alone.outputs.items():
                np.testing.assert_array_equal(array[0], whole.outputs[output][row])
