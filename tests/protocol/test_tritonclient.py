"""Triton's own client, unchanged: over HTTP and gRPC, plain and async, and its stream."""

import asyncio
import queue

import numpy as np
import pytest

from .rest_wire import RestWire

for part in ("grpc", "grpc.aio", "http", "http.aio", "utils"):
    pytest.importorskip(f"tritonclient.{part}", exc_type=(ImportError, RuntimeError))
tritonclient = pytest.importorskip("tritonclient")

PATIENCE_S = 60


@pytest.fixture
def facts(models):
    return models[0]


@pytest.fixture
def addresses(target):
    if target[1] is None:
        pytest.skip("--grpc: no address was given")
    return {"http": target[0].partition("://")[2], "grpc": target[1]}


@pytest.fixture(params=["http", "grpc"])
def side(request, addresses):
    """A module of the client and the address for it."""
    return getattr(tritonclient, request.param), addresses[request.param]


@pytest.fixture
def client(side):
    module, address = side
    made = module.InferenceServerClient(address)
    yield made
    made.close()


def inputs_of(module, request):
    found = []
    for tensor in request.inputs:
        made = module.InferInput(tensor.name, list(tensor.shape), tensor.datatype)
        made.set_data_from_numpy(tensor.elements)
        found.append(made)
    return found


def expected_of(http, request):
    return RestWire(http, "flat").infer(request).outputs


def check(result, expected):
    for name, array in expected.items():
        np.testing.assert_array_equal(result.as_numpy(name), array)


def test_health_is_what_the_client_looks_for(client, facts):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(facts.name)
    assert client.is_model_ready(facts.name, facts.version)


def test_metadata_is_read(client, side, facts):
    server, model = client.get_server_metadata(), client.get_model_metadata(facts.name)
    if side[0] is tritonclient.grpc:
        assert server.name
        assert [tensor.name for tensor in model.inputs] == list(facts.inputs)
    else:
        assert server["name"]
        assert [tensor["name"] for tensor in model["inputs"]] == list(facts.inputs)


def test_inference_gives_the_values_that_json_gives(client, side, facts, http):
    request = facts.request(rows=3)
    result = client.infer(facts.name, inputs_of(side[0], request), request_id="q1")

    check(result, expected_of(http, request))


def test_outputs_by_name_priority_and_timeout_are_said(client, side, facts, http):
    request = facts.request(outputs=tuple(facts.outputs))
    wanted = [side[0].InferRequestedOutput(name) for name in facts.outputs]
    inputs = inputs_of(side[0], request)
    result = client.infer(facts.name, inputs, outputs=wanted, priority=2, timeout=30_000_000)

    check(result, expected_of(http, request))


def test_inference_in_the_background(client, side, facts, http):
    request = facts.request()
    inputs = inputs_of(side[0], request)
    if side[0] is tritonclient.grpc:
        answers = queue.SimpleQueue()
        client.async_infer(facts.name, inputs, callback=lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=PATIENCE_S)
        assert error is None
    else:
        result = client.async_infer(facts.name, inputs).get_result()

    check(result, expected_of(http, request))


def test_an_unknown_model_is_the_clients_exception_with_our_sentence(client, side, facts):
    with pytest.raises(tritonclient.utils.InferenceServerException, match="no-such-model"):
        client.infer("no-such-model", inputs_of(side[0], facts.request()))


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_async_inference(name, addresses, facts, http):
    module = getattr(tritonclient, name)
    request = facts.request()

    async def ask():
        async with module.aio.InferenceServerClient(addresses[name]) as client:
            assert await client.is_server_ready()
            return await client.infer(facts.name, inputs_of(module, request))

    check(asyncio.run(ask()), expected_of(http, request))


def test_a_stream_answers_and_tells_errors_and_goes_on(addresses, facts, http):
    request, answers = facts.request(), queue.SimpleQueue()
    with tritonclient.grpc.InferenceServerClient(addresses["grpc"]) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        inputs = inputs_of(tritonclient.grpc, request)
        nothing = [tritonclient.grpc.InferRequestedOutput("nothing")]
        for name, outputs in (("a", None), ("b", nothing), ("c", None)):
            client.async_stream_infer(
                facts.name, inputs, request_id=name, outputs=outputs, enable_empty_final_response=True
            )
        found = [answers.get(timeout=PATIENCE_S) for _ in range(3)]
        client.stop_stream()
    good = [result for result, error in found if error is None]

    assert len(good) == 2
    assert {result.get_response().id for result in good} == {"a", "c"}
    for result in good:
        check(result, expected_of(http, request))


def test_an_async_stream(addresses, facts, http):
    request = facts.request()

    async def ask():
        async def requests():
            yield {"model_name": facts.name, "inputs": inputs_of(tritonclient.grpc.aio, request), "request_id": "s"}

        async with tritonclient.grpc.aio.InferenceServerClient(addresses["grpc"]) as client:
            return [answer async for answer in client.stream_infer(requests())]

    ((result, error),) = asyncio.run(ask())

    assert error is None
    check(result, expected_of(http, request))


def test_grpc_configuration_statistics_and_index_are_read(addresses, facts):
    with tritonclient.grpc.InferenceServerClient(addresses["grpc"]) as client:
        config = client.get_model_config(facts.name).config
        statistics = client.get_inference_statistics(facts.name).model_stats
        index = client.get_model_repository_index().models

    assert [tensor.name for tensor in config.input] == list(facts.inputs)
    assert [one.name for one in statistics] == [facts.name]
    assert facts.name in {model.name for model in index if model.state == "READY"}
