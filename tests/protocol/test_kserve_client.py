"""The client of the package kserve, unchanged: REST and gRPC, health included."""

import asyncio
import sys

import numpy as np
import pytest

from .rest_wire import RestWire

with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "argv", sys.argv[:1])  # the package reads the command line when it is imported
    kserve = pytest.importorskip("kserve")


@pytest.fixture
def facts(models):
    return models[0]


@pytest.fixture
def rpc_address(target):
    if target[1] is None:
        pytest.skip("--grpc: no address was given")
    return target[1]


def request_of(request, *, binary, name=None):
    inputs = []
    for tensor in request.inputs:
        made = kserve.InferInput(tensor.name, list(tensor.shape), tensor.datatype)
        made.set_data_from_numpy(tensor.elements, binary_data=binary)
        inputs.append(made)
    return kserve.InferRequest(model_name=name or request.model, infer_inputs=inputs, request_id="q1")


def check(response, http, request):
    expected = RestWire(http, "flat").infer(request).outputs
    assert response.id == "q1"
    assert [output.name for output in response.outputs] == list(expected)
    for output in response.outputs:
        np.testing.assert_array_equal(output.as_numpy().reshape(expected[output.name].shape), expected[output.name])


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_rest_client(target, facts, http, binary):
    request = facts.request()

    async def ask():
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        try:
            assert await client.is_server_live(target[0])
            assert await client.is_server_ready(target[0])
            assert await client.is_model_ready(target[0], facts.name)
            return await client.infer(target[0], request_of(request, binary=binary), model_name=facts.name)
        finally:
            await client.close()

    check(asyncio.run(ask()), http, request)


@pytest.mark.parametrize("binary", [False, True], ids=["typed", "raw"])
def test_grpc_client(rpc_address, facts, http, binary):
    request = facts.request()

    async def ask():
        client = kserve.InferenceGRPCClient(rpc_address)
        try:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready(facts.name)
            return await client.infer(request_of(request, binary=binary))
        finally:
            await client.close()

    check(asyncio.run(ask()), http, request)
