"""The kit says in one sentence what a server does wrongly, where no test could go on."""

import json

import httpx
import pytest

from cellgate.serve.rpc import inference_pb2 as messages

from . import rpc_wire
from .conftest import facts_of, names_of, reach
from .rest_wire import read_answer

OUTPUT = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


def response_of(content, status=200, **headers):
    request = httpx.Request("POST", "http://h/v2/models/m/infer")
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.Response(status, content=content, headers=headers, request=request)


def without(name):
    return {"outputs": [{key: value for key, value in OUTPUT.items() if key != name}]}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(b"<html>", "JSONDecodeError", id="no JSON"),
        pytest.param([], "TypeError", id="a list"),
        pytest.param({"model_name": "m"}, "KeyError: 'outputs'", id="no outputs"),
        pytest.param(without("name"), "KeyError: 'name'", id="no name"),
        pytest.param(without("data"), "KeyError: 'parameters'", id="no data"),
        pytest.param({"outputs": [{**OUTPUT, "datatype": "F"}]}, "KeyError: 'F'", id="no datatype of the protocol"),
        pytest.param({"outputs": [{**OUTPUT, "data": [1]}]}, "cannot reshape array of size 1", id="too few elements"),
        pytest.param({"outputs": [{**OUTPUT, "data": "QQ"}]}, "could not convert", id="data in words"),
    ],
)
def test_an_answer_that_is_none_is_told(content, found):
    with pytest.raises(pytest.fail.Exception, match=r"^answer 200 to /v2/models/m/infer: expected output") as got:
        read_answer(response_of(content))

    assert found in str(got.value)
    assert not got.value.pytrace


def test_bytes_behind_the_last_output_are_told():
    head = json.dumps({"outputs": []}).encode()
    with pytest.raises(pytest.fail.Exception, match="3 bytes too many"):
        read_answer(response_of(head + b"abc", **{"inference-header-content-length": str(len(head))}))


@pytest.mark.parametrize("content", [b"<html>Traceback</html>", {"detail": "x"}, {"error": {"code": 1}}], ids=str)
def test_an_error_that_is_no_error_object_is_told(content):
    with pytest.raises(pytest.fail.Exception, match=r"^answer 500 to /v2/models/m/infer: expected an error object, "):
        read_answer(response_of(content, 500))


def test_an_answer_of_grpc_that_contradicts_itself_is_told():
    message = messages.ModelInferResponse(model_name="m")
    message.outputs.add(name="y", datatype="FP32", shape=[1, 2])
    message.raw_output_contents.append(bytes(4))

    with pytest.raises(pytest.fail.Exception, match=r"^answer of gRPC: expected outputs, .* cannot reshape"):
        rpc_wire.read_answer(message)
    with pytest.raises(pytest.fail.Exception, match="expected a ModelInferResponse, found"):
        rpc_wire._parsed(messages.ModelInferResponse, b"\xff\xff")


@pytest.fixture
def odd_server():
    """A client of a server that lists no models and describes none; it runs in the client's own thread."""

    def answer(environ, start):
        is_model = environ["PATH_INFO"] == "/v2/models/m"
        start("200 OK" if is_model else "404 Not Found", [("Content-Type", "application/json")])
        return [b'{"name": "m"}' if is_model else b"none"]

    with httpx.Client(base_url="http://h", transport=httpx.WSGITransport(app=answer)) as client:
        yield client


def test_a_server_that_lists_no_models_or_describes_none_ends_the_run(odd_server):
    with pytest.raises(pytest.exit.Exception, match="found 404 none; name them with --models a,b"):
        names_of(odd_server)
    with pytest.raises(pytest.exit.Exception, match=r"GET /v2/models/m: expected name, inputs .* KeyError 'inputs'"):
        facts_of(odd_server, "m")


def test_where_nobody_listens_the_run_ends():
    with httpx.Client(base_url="http://127.0.0.1:1") as client, pytest.raises(pytest.exit.Exception, match="a server"):
        reach(client)
