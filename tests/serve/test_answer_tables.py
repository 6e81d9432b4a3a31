"""A network whose answer is a table: its shape on the wires, its rows, and what is counted of it."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from cellgate.bundle.reader import read_bundle
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.engine.work import Work
from cellgate.serve.errors import BadInput
from cellgate.serve.infer.input_check import BatchSize, check_outputs
from cellgate.serve.models.metadata import model_metadata
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.frames import FrameDecoder
from cellgate.serve.processes.tensor_frames import ModelCodec, join
from cellgate.serve.runtime.bits_check import check_bits
from cellgate.serve.settings import Settings

from .conftest import started
from .small_network import Network, O

SETTINGS = Settings(device="cpu", threads=1)
TABLE = (2, O // 2)


class Tables(Network):
    """The network of a kind, with a table of 2 by 2 in the place of its four outputs."""

    @property
    def signature(self):
        signature = super().signature
        y, *states = signature.outputs
        return replace(signature, outputs=(replace(y, shape=(*y.shape[:-1], *TABLE)), *states))

    def compute(self, feeds):
        found = super().compute(feeds)
        return found | {"y": found["y"].reshape(*found["y"].shape[:-1], *TABLE)}

    def nodes(self):
        *before, last = super().nodes()
        last.output[0] = "flat"
        kept = [0] * (len(self.signature.outputs[0].shape) - 2)
        yield from (*before, last, helper.make_node("Constant", [], ["form"], value_ints=[*kept, *TABLE]))
        yield helper.make_node("Reshape", ["flat", "form"], ["y"])


@pytest.fixture(scope="module", params=["steps", "last", "frames"])
def network(request):
    return Tables(request.param)


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    return network.write(tmp_path_factory.mktemp("b") / network.kind, labels=("low", "high"))


@pytest.fixture(scope="module")
def opened(path):
    (model,) = open_engine_models([BundlePlace(path)], SETTINGS)
    yield model
    model.runtime.close()


async def test_every_row_has_its_table_in_json_and_in_bytes(
    network, opened, serve_alone, post, make_request, read_outputs, pack_binary, read_binary
):
    feeds = network.feeds(4, 9, [9, 3, 8, 4])
    expected = network.compute(feeds)["y"]
    client_of, engine = serve_alone(opened)
    async with started(engine), client_of as client:
        text = await post(client, make_request(feeds), network.kind)
        body, head_bytes = pack_binary(feeds, outputs=[{"name": "y", "parameters": {"binary_data": True}}])
        binary = await post(client, body, network.kind, headers={"Inference-Header-Content-Length": str(head_bytes)})

    for found in (read_outputs(text.json())["y"], read_binary(binary)["y"]):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("network", ["steps", "last"], indirect=True)
async def test_steps_in_chunks_give_the_tables_that_they_give_in_one_pass(
    opened, network, serve_alone, post, make_request, read_outputs
):
    feeds = network.feeds(2, 7)
    whole = network.compute(feeds)["y"]
    client_of, engine = serve_alone(opened)
    chunks, states = [], {"h0": feeds["h0"], "c0": feeds["c0"]}
    async with started(engine), client_of as client:
        for first, last in ((0, 3), (3, 4), (4, 7)):
            asked = {"x": feeds["x"][:, first:last], **states}
            answer = await post(client, make_request(asked, outputs=["y", "h_n", "c_n"]), network.kind)
            found = read_outputs(answer.json())
            states = {"h0": found["h_n"], "c0": found["c_n"]}
            chunks.append(found["y"])

    joined = np.concatenate(chunks, axis=1) if network.kind == "steps" else chunks[-1]
    assert joined.shape == whole.shape
    assert np.abs(joined - whole).max() < 1e-5


def test_metadata_say_the_sizes_of_the_table(network, opened):
    free = 1 if network.kind == "last" else 2

    found = model_metadata(opened.served)

    assert found["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [*[-1] * free, *TABLE]}
    assert found["properties"]["labels"] == '["low", "high"]'


def test_limit_of_an_answer_counts_every_number_of_the_table(network, limits):
    steps = {"steps": 8, "last": 1, "frames": 3}[network.kind]
    tight = replace(limits, max_answer_elements=2 * steps * O)

    assert check_outputs(network.signature, ("y",), BatchSize(2, 8), tight) == ("y",)
    with pytest.raises(BadInput, match=f"at most {2 * steps * O} elements in the answer, found {3 * steps * O}"):
        check_outputs(network.signature, ("y",), BatchSize(3, 8), tight)


def test_table_goes_between_processes_with_its_sizes(network):
    codec = ModelCodec(0, network.kind, network.signature)
    feeds = network.feeds(2, 7)
    states = tuple(feeds[pair.input] for pair in network.signature.state)
    work = Work(model=network.kind, sequence=feeds["x"], lengths=feeds["lengths"], states=states, outputs=("y",))
    y = network.compute(feeds)["y"]

    (asked,) = FrameDecoder(2**24).feed(join(codec.pack_work(7, work)[0]))
    (frame,) = FrameDecoder(2**24).feed(join(codec.pack_answer(codec.unpack_work(asked), {"y": y})))

    found = codec.unpack_answer(frame)["y"]
    assert (found.shape, found.tobytes()) == (y.shape, y.tobytes())


def test_bits_of_golden_tables_alone_and_in_chunks_are_compared(network, opened, path):
    found = check_bits(opened.runtime, read_bundle(path))

    assert found.rows_bitwise
    assert (found.chunks > 0) == bool(network.signature.state)
