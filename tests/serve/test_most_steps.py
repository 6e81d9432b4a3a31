"""A network whose positions end: what is longer is refused before it is run."""

from dataclasses import replace

import pytest

from cellgate.serve.engine.calibrate import calibrate
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.errors import BadInput
from cellgate.serve.infer.inference import ArrayHead
from cellgate.serve.infer.input_check import BatchSize, check_heads
from cellgate.serve.models.metadata import model_metadata
from cellgate.serve.models.model_config import model_config
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.settings import Settings

from .conftest import started
from .small_network import LEAST, Network
from .watched_runtime import WatchedRuntime

MOST = 8
SAID = f"inputs.x.shape: expected at most {MOST} steps, found 9; this network takes no longer sequence"


class Ending(Network):
    """Windows, of which no more than eight steps can be read."""

    @property
    def signature(self):
        return replace(super().signature, most_steps=MOST)


@pytest.fixture(scope="module")
def network():
    return Ending("windows")


@pytest.fixture(scope="module")
def opened(network, tmp_path_factory):
    path = network.write(tmp_path_factory.mktemp("b") / "windows")
    (model,) = open_engine_models([BundlePlace(path)], Settings(device="cpu", threads=1))
    yield replace(model, runtime=WatchedRuntime(model.runtime))
    model.runtime.close()


def test_heads_are_refused_above_the_most(network, limits):
    assert check_heads(network.signature, [ArrayHead("x", "FP32", (2, MOST, 2))], limits) == BatchSize(2, MOST)
    with pytest.raises(BadInput) as caught:
        check_heads(network.signature, [ArrayHead("x", "FP32", (2, MOST + 1, 2))], limits)

    assert (str(caught.value), caught.value.status) == (SAID, 400)


def test_nothing_longer_is_run_while_costs_are_measured(opened):
    watched = WatchedRuntime(opened.runtime)
    calibrate(watched, 8)

    assert min(watched.steps) >= LEAST
    assert max(watched.steps) == MOST


async def test_longest_rows_are_answered_and_longer_ones_never_run(opened, serve_alone, network, post, make_request):
    client_of, engine = serve_alone(opened)
    opened.runtime.steps.clear()
    async with started(engine), client_of as client:
        longest = await post(client, make_request(network.feeds(2, MOST)), "windows")
        longer = await post(client, make_request(network.feeds(2, MOST + 1)), "windows")

    assert longest.status_code == 200
    assert (longer.status_code, longer.json()["error"]) == (400, SAID)
    assert opened.runtime.steps == [MOST]


def test_metadata_and_configuration_say_the_most(opened, served_models):
    served, other = opened.served, served_models["steps"]

    assert model_metadata(served)["properties"]["most_steps"] == "8"
    assert model_config(served, Settings())["parameters"]["max_steps"] == {"string_value": "8"}
    assert "most_steps" not in model_metadata(other)["properties"]
    assert model_config(other, Settings(max_steps=70))["parameters"]["max_steps"] == {"string_value": "70"}
