"""A network that needs three steps: served from there on, and what is shorter is refused before it is run."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cellgate.bundle.manifest import TensorSpec
from cellgate.serve.engine.calibrate import calibrate
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.errors import BadInput
from cellgate.serve.infer.inference import ArrayHead
from cellgate.serve.infer.input_check import BatchSize, check_heads
from cellgate.serve.infer.value_check import value_rule
from cellgate.serve.models.example_request import example_request, further_examples
from cellgate.serve.models.metadata import model_metadata
from cellgate.serve.models.model_config import model_config
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import ServerStartError

from .conftest import started
from .hot_wire import Wire, listen
from .small_network import LEAST, Network
from .watched_runtime import WatchedRuntime

SETTINGS = Settings(device="cpu", threads=1)
HEAD_BYTES = "Inference-Header-Content-Length"
SAID = "inputs.x.shape: expected at least 3 steps, found 2; this network takes no shorter sequence"


@pytest.fixture(scope="module")
def network():
    return Network("windows")


@pytest.fixture(scope="module")
def opened(network, tmp_path_factory):
    (model,) = open_engine_models([BundlePlace(network.write(tmp_path_factory.mktemp("b") / "windows"))], SETTINGS)
    yield replace(model, runtime=WatchedRuntime(model.runtime))
    model.runtime.close()


@pytest.fixture
def served(opened, serve_alone):
    return serve_alone(opened)


def x(*shape):
    return ArrayHead("x", "FP32", shape)


def test_heads_are_refused_below_the_least(network, limits):
    assert check_heads(network.signature, [x(2, 3, 2)], limits) == BatchSize(2, 3)
    with pytest.raises(BadInput) as caught:
        check_heads(network.signature, [x(2, 2, 2)], limits)

    assert str(caught.value) == SAID
    assert caught.value.status == 400


def test_lengths_are_refused_below_the_least(network):
    lengths = TensorSpec(name="lengths", dtype="int32", shape=("B",))
    signature = replace(network.signature, inputs=(*network.signature.inputs, lengths), lengths="lengths")
    rule = value_rule(signature, "lengths", BatchSize(3, 7))

    assert rule.apply(np.array([3, 7, 5], np.int32)).tolist() == [3, 7, 5]
    with pytest.raises(BadInput, match=r"values in 3 .. 7, found 2 at \[1\]; this network takes no shorter sequence"):
        rule.apply(np.array([3, 2, 5], np.int32))


def test_nothing_shorter_is_run_while_costs_are_measured(opened):
    watched = WatchedRuntime(opened.runtime)
    calibrate(watched, 8)

    assert min(watched.steps) == LEAST


async def test_rows_of_every_length_from_the_least_on_are_answered_and_shorter_ones_never_run(
    opened, served, network, post, make_request, pack_binary, read_outputs
):
    client_of, engine = served
    opened.runtime.steps.clear()
    async with started(engine), client_of as client:
        for steps in (3, 4, 5, 6, 11):
            feeds = network.feeds(2, steps, seed=steps)
            answer = await post(client, make_request(feeds), "windows")
            expected = network.compute(feeds)["y"]

            assert answer.status_code == 200
            assert np.abs(read_outputs(answer.json())["y"] - expected).max() < 1e-5
        short = network.feeds(2, 2)
        body, head_bytes = pack_binary(short)
        binary = {HEAD_BYTES: str(head_bytes), "Content-Type": "application/octet-stream"}
        refused = [
            await post(client, make_request(short), "windows"),
            await post(client, body, "windows", headers=binary),
            await post(client, short["x"][:1].tobytes(), "windows", headers={**binary, HEAD_BYTES: "0"}),
        ]

    for answer in refused:
        assert answer.status_code == 400
        assert answer.json()["error"] == SAID
    assert sorted(set(opened.runtime.steps)) == [3, 4, 5, 6, 11]


async def test_rows_of_unequal_length_are_each_run_at_their_own(served, network, post, make_request):
    client_of, engine = served
    async with started(engine), client_of as client:
        feeds = {**network.feeds(2, 5), "lengths": np.array([5, 4], np.int32)}
        answer = await post(client, make_request(feeds), "windows")

    assert answer.status_code == 400
    assert "send rows of equal length together" in answer.json()["error"]


async def test_hot_route_says_the_same(make_manual_port, opened):
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [0.0] * 4}]}).encode()
    request = (
        b"POST /v2/models/windows/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    answers = []
    for hot_route in (True, False):
        async with (
            listen([opened.served], make_manual_port(), hot_route=hot_route) as server,
            Wire.open(server) as wire,
        ):
            wire.send(request)
            answers.append(await wire.response())

    assert answers[0] == answers[1]
    assert SAID.encode() in answers[0]


def test_example_request_is_long_enough_and_metadata_and_configuration_say_the_least(opened, limits, served_models):
    served = opened.served
    (tensor,) = served.example["inputs"]

    assert tensor["shape"] == [1, LEAST, 2]
    assert further_examples(served.example, served.manifest) == {}
    assert model_metadata(served)["properties"]["least_steps"] == "3"
    assert model_config(served, Settings())["parameters"]["least_steps"] == {"string_value": "3"}
    assert "least_steps" not in model_metadata(served_models["steps"])["properties"]
    assert model_config(served_models["steps"], Settings())["parameters"]["least_steps"] == {"string_value": "1"}


def test_examples_of_a_network_that_takes_lengths_have_none_below_the_least(opened, network):
    lengths = TensorSpec(name="lengths", dtype="int32", shape=("B",))
    graph = replace(network.signature, inputs=(*network.signature.inputs, lengths), lengths="lengths")
    golden = tuple(replace(case, inputs={**case.inputs, "lengths": None}) for case in network.golden())
    example = example_request(graph, golden)
    two = further_examples(example, replace(opened.served.manifest, graph=graph))["two sequences and their states"]

    assert [tensor["data"] for tensor in example["inputs"][1:]] == [[4]]
    assert two["inputs"][1]["data"] == [4, 3]
    assert two["inputs"][0]["data"][14:] == [0, 0]


def test_a_server_that_takes_no_sequence_long_enough_does_not_start(network, tmp_path):
    place = BundlePlace(network.write(tmp_path / "windows"))
    said = r"^model windows: expected max-steps of at least 3, which the network needs, found 2$"

    with pytest.raises(ServerStartError, match=said):
        open_engine_models([place], replace(SETTINGS, max_steps=2))
    (model,) = open_engine_models([place], replace(SETTINGS, max_steps=3))
    model.runtime.close()
