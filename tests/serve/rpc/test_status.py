"""Every class of errors has a code, and the right one."""

import inspect

import pytest
from grpc import StatusCode

from cellgate.serve import errors, stream_errors
from cellgate.serve.errors import BadInput, ServeError
from cellgate.serve.rpc import errors as rpc_errors
from cellgate.serve.rpc.status import status_code_of, status_of
from cellgate.serve.start_errors import ServerStartError

CLASSES = [
    kind
    for module in (errors, rpc_errors)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, ServeError) and not issubclass(kind, ServerStartError)
]
CLASSES += [kind for kind in vars(stream_errors).values() if inspect.isclass(kind) and kind not in CLASSES]
# The right column of the table of statuses, by HTTP's; where one of HTTP has several of gRPC, all of them.
EXPECTED = {
    400: {StatusCode.INVALID_ARGUMENT},
    401: {StatusCode.UNAUTHENTICATED},
    403: {StatusCode.PERMISSION_DENIED},
    404: {StatusCode.NOT_FOUND},
    409: {StatusCode.ABORTED, StatusCode.ALREADY_EXISTS, StatusCode.FAILED_PRECONDITION},
    410: {StatusCode.NOT_FOUND},
    413: {StatusCode.RESOURCE_EXHAUSTED},
    415: {StatusCode.INVALID_ARGUMENT},
    422: {StatusCode.FAILED_PRECONDITION},
    500: {StatusCode.INTERNAL},
    501: {StatusCode.UNIMPLEMENTED},
    503: {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED},
    504: {StatusCode.DEADLINE_EXCEEDED},
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_ends_a_call_with_the_code_of_the_table(kind):
    assert status_code_of(kind) in EXPECTED[kind.status]


def test_a_class_of_its_own_goes_by_the_nearest_class_that_is_known():
    class OddError(BadInput):
        status = 418

    class GoneError(ServeError):
        status = 410

    class StrangeError(ServeError):
        status = 499

    assert status_code_of(OddError) is StatusCode.INVALID_ARGUMENT
    assert status_code_of(GoneError) is StatusCode.NOT_FOUND
    assert status_code_of(StrangeError) is StatusCode.INTERNAL


def test_facts_of_an_error_are_trailing_metadata():
    error = BadInput("x", "a", "b")
    error.facts = {"expected_step": 3}

    found = status_of(error)

    assert found.sentence == "x: expected a, found b"
    assert found.trailing == (("error-code", "bad_input"), ("expected-step", "3"))
