"""Lanes whose states stay on the device, played by CPU tensors: the same bits as lanes on the host, whatever comes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from cellgate.bundle.manifest import TensorSpec
from cellgate.serve.engine.counting_runtime import CountingRuntime
from cellgate.serve.engine.device_lanes import DeviceLaneTable, lane_table
from cellgate.serve.engine.lane_proof import LanesAsRuntime, keeps_states_on_device
from cellgate.serve.engine.lanes import LaneTable
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.engine.request import Request
from cellgate.serve.engine.work import Work
from cellgate.serve.errors import EngineError
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.runtime.device_choice import open_runtime
from cellgate.serve.runtime.golden_check import check_golden
from cellgate.serve.runtime.onnx_runtime import OnnxRuntime
from cellgate.serve.runtime.state_graph import state_graph
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import ServerStartError

from .lane_traffic import MAX_LANES, Traffic

KINDS = ["steps", "last", "tokens"]


@pytest.fixture
def runtime(request, bundles):
    opened = open_runtime(bundles[request.param], device="cpu", threads=1)
    yield opened
    opened.close()


@pytest.mark.parametrize("runtime", KINDS, indirect=True)
@pytest.mark.parametrize("seed", range(8))
def test_random_traffic_gives_the_same_bits_as_lanes_on_the_host(runtime, make_network, request, seed):
    network = make_network(request.node.callspec.params["runtime"])
    answers = []
    for table in (LaneTable(runtime, MAX_LANES), DeviceLaneTable(runtime, MAX_LANES)):
        traffic = Traffic(table, network, seed)
        for _ in range(60):
            traffic.turn()
        answers.append(traffic.finish())
        assert table.used_slots == 0

    host, device = answers
    assert len(host) == len(device) > 10
    for one, other in zip(host, device, strict=True):
        assert list(one) == list(other)
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("runtime", ["steps"], indirect=True)
def test_refused_run_moves_no_lane_and_keeps_every_state(runtime, make_network):
    network = make_network("steps")
    table = DeviceLaneTable(runtime, 2)
    feeds = network.feeds(2, 6)
    work = Work(
        model="",
        sequence=feeds["x"],
        lengths=feeds["lengths"],
        states=(feeds["h0"], feeds["c0"]),
        outputs=("y", "h_n", "c_n"),
    )
    request = Request(None, work, 0, 2)
    lanes = [request.next_lane(), request.next_lane()]
    for lane in lanes:
        table.begin(lane)
    table.advance(lanes, 2)
    source, lanes[0].source = lanes[0].source, lanes[0].source.astype(np.float64)
    with pytest.raises(EngineError, match="found it refused"):
        table.advance(lanes[:1], 1)
    lanes[0].source = source
    while lanes:
        lanes = lanes[table.advance(lanes, 2) :]

    expected = network.compute(feeds)
    for name, array in request.ordered_answer().items():
        assert np.abs(array - expected[name]).max() < 1e-5


@pytest.mark.parametrize("runtime", ["last"], indirect=True)
def test_only_what_somebody_wants_comes_to_the_host(runtime, make_network):
    class Watching:
        def __init__(self, graph):
            self.graph = graph
            self.wanted = []

        def run(self, feeds, kept, wanted):
            assert not {"h0", "c0"} & feeds.keys()
            self.wanted.append(set(wanted))
            return self.graph.run(feeds, kept, wanted)

        def wait(self):
            self.graph.wait()

    table = DeviceLaneTable(runtime, 2)
    watching = table._graph = Watching(table._graph)
    feeds = make_network("last").feeds(1, 6)
    work = Work(model="", sequence=feeds["x"], lengths=feeds["lengths"], states=(None, None), outputs=("y",))
    lane = Request(None, work, 0, 1).next_lane()
    table.begin(lane)
    for _ in range(3):
        table.advance([lane], 2)

    assert watching.wanted == [set(), set(), {"y"}]


def test_graph_of_states_is_lawful_and_does_what_it_says():
    specs = [
        TensorSpec(name="h0", dtype="float32", shape=(2, "B", 3)),
        TensorSpec(name="n0", dtype="float16", shape=("B", 300)),
    ]
    made = onnx.load_from_string(state_graph(specs))
    onnx.checker.check_model(made, full_check=True)
    values = np.random.default_rng(0)
    feeds = {"take": np.array([5, 0, 3]), "keep": np.array([0, 4, 2, 1])}
    for k, spec in enumerate(specs):
        for part, rows in (("table", 3), ("last", 2), ("given", 1)):
            shape = [rows if axis == "B" else axis for axis in spec.shape]
            feeds[f"{part}_{k}"] = values.normal(size=shape).astype(spec.dtype)
    outputs = [f"{part}_{k}" for k in range(2) for part in ("next", "kept")]
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])

    for found in (session.run(outputs, feeds), ReferenceEvaluator(made).run(outputs, feeds)):
        for k, spec in enumerate(specs):
            axis = spec.shape.index("B")
            whole = np.concatenate([feeds[f"{part}_{k}"] for part in ("table", "last", "given")], axis=axis)
            assert np.array_equal(found[2 * k], whole.take([5, 0, 3], axis=axis))
            assert np.array_equal(found[2 * k + 1], whole.take([0, 4, 2, 1], axis=axis))


@pytest.mark.parametrize("runtime", KINDS, indirect=True)
@pytest.mark.parametrize("streamable", [True, False])
def test_golden_cases_come_out_right_through_lanes_on_the_device(runtime, bundles, request, streamable):
    bundle = bundles[request.node.callspec.params["runtime"]]

    result = check_golden(LanesAsRuntime(runtime, streamable=streamable), bundle)

    assert result.passed, result.summary()


@pytest.mark.parametrize("runtime", ["steps"], indirect=True)
def test_states_stay_on_the_host_unless_the_device_is_cuda(runtime, bundles):
    assert not keeps_states_on_device(runtime, bundles["steps"])
    assert type(lane_table(runtime, 2, on_device=False)) is LaneTable
    assert type(lane_table(runtime, 2, on_device=True)) is DeviceLaneTable


class CalledCuda(OnnxRuntime):
    """The CPU under the name of CUDA; its small graph may mix the states up."""

    mixes_up = False
    device = "cuda"

    def bound(self):
        graph = super().bound()
        graph._device = "cpu"
        return graph

    def open_beside(self, model):
        graph = self.opened_beside(model)
        if not self.mixes_up:
            return graph

        class MixedUp:
            def run(self, feeds, kept, wanted):
                return graph.run({**feeds, "take": feeds["take"][::-1].copy()}, kept, wanted)

        return MixedUp()

    def opened_beside(self, model):
        type(self).device = "cpu"
        try:
            return super().open_beside(model)
        finally:
            type(self).device = "cuda"


@pytest.mark.parametrize("mixes_up", [False, True])
def test_on_cuda_states_stay_there_only_where_the_golden_cases_prove_it(bundles, monkeypatch, caplog, mixes_up):
    monkeypatch.setattr(CalledCuda, "mixes_up", mixes_up)
    bundle = bundles["steps"]
    runtime = CalledCuda(bundle.model, bundle.manifest.graph, bundle.manifest.session)

    assert keeps_states_on_device(runtime, bundle) is not mixes_up
    assert ("states stay on the host" in caplog.text) is mixes_up


@pytest.mark.gpu
def test_cuda_keeps_states_on_the_device(bundle_paths):
    (model,) = open_engine_models([BundlePlace(bundle_paths["steps"])], Settings(device="cuda"))

    assert model.device_lanes
    assert "states stay on the device" in model.plan_line(Settings())


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_random_traffic_on_cuda_is_right(bundles, make_network, kind):
    network = make_network(kind)
    runtime = open_runtime(bundles[kind], device="cuda", threads=1)
    answers = []
    for table in (LaneTable(runtime, MAX_LANES), DeviceLaneTable(runtime, MAX_LANES)):
        traffic = Traffic(table, network, 0)
        for _ in range(100):
            traffic.turn()
        answers.append(traffic.finish())

    for one, other in zip(*answers, strict=True):
        assert all(np.abs(one[name] - other[name]).max() < 1e-5 for name in one)


def test_counted_lanes_on_the_device_give_the_same_bits_and_the_same_counts(bundles, make_network):
    network = make_network("last")
    runtime = open_runtime(bundles["last"], device="cpu", threads=1)
    found = []
    for on_device in (False, True):
        counting = CountingRuntime(runtime)
        traffic = Traffic(lane_table(counting, MAX_LANES, on_device=on_device), network, 3)
        for _ in range(30):
            traffic.turn()
        answers = traffic.finish()
        found.append(
            ([answer[name].tobytes() for answer in answers for name in answer], counting.useful, counting.computed)
        )

    assert found[0] == found[1]
    assert 0 < found[0][1] < found[0][2]


def test_states_stay_on_the_host_where_the_small_graph_does_not_open_on_the_device(bundles, monkeypatch, caplog):
    def refuse(self, model):
        raise ServerStartError("no kernel")

    monkeypatch.setattr(CalledCuda, "open_beside", refuse)
    bundle = bundles["steps"]
    runtime = CalledCuda(bundle.model, bundle.manifest.graph, bundle.manifest.session)

    assert not keeps_states_on_device(runtime, bundle)
    assert "states stay on the host, for no kernel" in caplog.text
