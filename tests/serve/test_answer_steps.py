"""A network that answers for fewer steps than it is given: every row at its own length, whatever runs beside it."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from cellgate.bundle.reader import read_bundle
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.engine.work import Work
from cellgate.serve.errors import BadInput
from cellgate.serve.infer.input_check import BatchSize, check_outputs
from cellgate.serve.models.metadata import model_metadata
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.frames import FrameDecoder, FrameError
from cellgate.serve.processes.tensor_frames import ModelCodec, join
from cellgate.serve.runtime.bits_check import check_bits
from cellgate.serve.settings import Settings

from .conftest import started
from .small_network import Network, O

SETTINGS = Settings(device="cpu", threads=1)


@pytest.fixture(scope="module")
def network():
    return Network("frames")


@pytest.fixture(scope="module")
def opened(network, tmp_path_factory):
    (model,) = open_engine_models([BundlePlace(network.write(tmp_path_factory.mktemp("b") / "frames"))], SETTINGS)
    yield model
    model.runtime.close()


@pytest.fixture
def served(opened, serve_alone):
    return serve_alone(opened)


async def test_ragged_rows_have_the_steps_that_are_left_of_each_and_zeros_behind(
    served, network, post, make_request, read_outputs
):
    client_of, engine = served
    feeds = network.feeds(5, 12, [12, 3, 8, 4, 11])
    async with started(engine), client_of as client:
        answer = await post(client, make_request(feeds), "frames")
        alone = [
            await post(client, make_request({"x": feeds["x"][row : row + 1, :length]}), "frames")
            for row, length in enumerate(feeds["lengths"])
        ]

    y = read_outputs(answer.json())["y"]
    assert (answer.status_code, y.shape) == (200, (5, 5, O))
    assert np.abs(y - network.compute(feeds)["y"]).max() < 1e-5
    for row, (one, left) in enumerate(zip(alone, (5, 1, 3, 1, 5), strict=True)):
        assert read_outputs(one.json())["y"].tobytes() == y[row, :left].tobytes()
        assert not y[row, left:].any()


async def test_requests_of_many_lengths_at_once_are_each_answered_as_alone(
    served, network, post, pack_binary, read_binary
):
    client_of, engine = served
    asked = [network.feeds(1 + seed % 3, 3 + seed % 11, seed=seed) for seed in range(40)]
    async with started(engine), client_of as client:

        async def ask(feeds):
            body, head_bytes = pack_binary(feeds, outputs=[{"name": "y", "parameters": {"binary_data": True}}])
            return await post(client, body, "frames", headers={"Inference-Header-Content-Length": str(head_bytes)})

        answers = await asyncio.gather(*map(ask, asked))

    for feeds, answer in zip(asked, answers, strict=True):
        expected = network.compute(feeds)["y"]
        found = read_binary(answer)["y"]
        assert (answer.status_code, found.shape) == (200, expected.shape)
        assert np.abs(found - expected).max() < 1e-5


def test_metadata_says_what_is_left_of_the_steps(opened, served_models):
    found = model_metadata(opened.served)

    assert found["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, -1, O]}]
    assert found["properties"]["answer_steps"] == '{"add": -1, "divide": 2}'
    assert "answer_steps" not in model_metadata(served_models["steps"])["properties"]
    assert "answer_steps" not in model_metadata(served_models["last"])["properties"]


def test_limit_of_an_answer_counts_the_steps_that_are_left(network, limits):
    tight = replace(limits, max_answer_elements=2 * 3 * O)

    assert check_outputs(network.signature, (), BatchSize(2, 8), tight) == ("y",)
    with pytest.raises(BadInput, match=f"at most {6 * O} elements in the answer, found {8 * O}"):
        check_outputs(network.signature, (), BatchSize(2, 9), tight)


@pytest.mark.parametrize(("steps", "left"), [(3, 1), (8, 3), (9, 4)])
def test_answer_between_processes_has_that_shape_and_no_other(network, steps, left):
    codec = ModelCodec(0, "frames", network.signature)
    feeds = network.feeds(2, steps)
    work = Work(model="frames", sequence=feeds["x"], lengths=feeds["lengths"], states=(), outputs=("y",))
    y = np.arange(2 * left * O, dtype=np.float32).reshape(2, left, O)

    (asked,) = FrameDecoder(2**24).feed(join(codec.pack_work(7, work)[0]))
    pieces = codec.pack_answer(codec.unpack_work(asked), {"y": y})
    (frame,) = FrameDecoder(2**24).feed(join(pieces))

    assert codec.unpack_answer(frame)["y"].tobytes() == y.tobytes()
    with pytest.raises(FrameError):
        codec.unpack_answer(frame[:-4])


def test_bits_of_golden_rows_alone_are_compared_as_far_as_they_are_left(network, opened, tmp_path):
    found = check_bits(opened.runtime, read_bundle(network.write(tmp_path / "frames")))

    assert (found.rows, found.rows_bitwise, found.chunks) == (3, True, 0)
