"""Whole networks on the kernels, played by NumPy: the same answers as onnxruntime gives, whatever comes."""

import numpy as np
import pytest
from onnx import helper

from cellgate.bundle.manifest import GraphSignature, SessionOptions, TensorSpec
from cellgate.serve.engine.device_lanes import DeviceLaneTable
from cellgate.serve.engine.lanes import LaneTable
from cellgate.serve.errors import EngineError
from cellgate.serve.kernel.memory import Placed
from cellgate.serve.runtime.golden_check import check_golden
from cellgate.serve.runtime.placement import CPU_PROVIDER, OWN_KERNELS

from ..engine.lane_traffic import MAX_LANES, Traffic
from .numpy_gpu import NumpyGpu
from .test_cut import VALUES, H, I, lstm_node, lstm_weights, model_of, residual

KINDS = ["steps", "last", "tokens"]


def of_bundle(bundle):
    return bundle.model, bundle.manifest.graph, bundle.manifest.session


def assert_near(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert np.abs(found[name] - array).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (3, 7), (40, 5)])
def test_batches_are_answered_as_by_the_runtime(kind, rows, steps, bundles, make_network, on_kernels):
    runtime, kernels, gpu = on_kernels(*of_bundle(bundles[kind]))
    lengths = np.random.default_rng(1).integers(1, steps + 1, size=rows).astype(np.int32)
    lengths[0] = steps
    if kind == "tokens":
        lengths[:] = steps
    feeds = make_network(kind).feeds(rows, steps, lengths, seed=5)

    assert_near(kernels.run(feeds), runtime.run(feeds))
    assert gpu.launched.count("advance") == 1


def test_facts_say_which_nodes_the_kernels_run(bundles, on_kernels):
    _, kernels, _ = on_kernels(*of_bundle(bundles["last"]))
    counts = dict(kernels.facts.placement.counts)

    assert counts[OWN_KERNELS] >= 2
    assert counts.keys() <= {OWN_KERNELS, CPU_PROVIDER}
    assert f"on {OWN_KERNELS}" in kernels.facts.placement.line()


@pytest.mark.parametrize("kind", KINDS)
def test_golden_cases_come_out_right(kind, bundles, on_kernels):
    _, kernels, _ = on_kernels(*of_bundle(bundles[kind]))

    result = check_golden(kernels, bundles[kind])
    assert result.passed, result.summary()


def signature_of(*outputs):
    def spec(name, dtype, *shape):
        return TensorSpec(name=name, dtype=dtype, shape=shape)

    states = [spec(name, "float32", 1, "B", H) for name in ("h0", "c0")]
    return GraphSignature(
        inputs=(spec("x", "float32", "T", "B", I), *states, spec("lengths", "int32", "B")),
        outputs=outputs,
        sequence="x",
        lengths="lengths",
    )


def test_what_stands_between_layers_is_left_to_the_runtime(on_kernels):
    outputs = (
        TensorSpec(name="out", dtype="float32", shape=("T", "B", 2)),
        TensorSpec(name="h_n", dtype="float32", shape=(1, "B", H)),
    )
    runtime, kernels, _ = on_kernels(residual(), signature_of(*outputs), SessionOptions())
    values = np.random.default_rng(2)
    feeds = {
        name: values.normal(size=shape).astype(np.float32)
        for name, shape in (("x", (7, 6, I)), ("h0", (1, 6, H)), ("c0", (1, 6, H)))
    }
    feeds["lengths"] = np.array([7, 2, 3, 6, 1, 5], dtype=np.int32)

    assert_near(kernels.run(feeds), runtime.run(feeds))
    assert dict(kernels.facts.placement.counts)[CPU_PROVIDER] == 2


def test_layers_without_lengths_run_every_row_to_its_end_beside_one_that_takes_them(on_kernels):
    stored = lstm_weights() | {"fold": np.array([0, 0, -1]), "wide": np.array([0, -1, I])}
    whole = helper.make_node("LSTM", ["x", "w", "r", "b"], ["y1"], hidden_size=H)
    folded = helper.make_node("Reshape", ["x2", "wide"], ["x3"])
    twice = helper.make_node("Concat", ["x", "x"], ["x2"], axis=2)
    other = helper.make_node("LSTM", ["x3", "w", "r", "b"], ["y2"], hidden_size=H)
    model = model_of([lstm_node(), whole, twice, folded, other], ["y", "y1", "y2"], stored)
    outputs = [
        TensorSpec(name=name, dtype="float32", shape=("T", 1, rows, H))
        for name, rows in (("y", "B"), ("y1", "B"), ("y2", "R"))
    ]
    runtime, kernels, _ = on_kernels(model, signature_of(*outputs), SessionOptions())
    feeds = {
        name: VALUES.normal(size=shape).astype(np.float32)
        for name, shape in (("x", (5, 3, I)), ("h0", (1, 3, H)), ("c0", (1, 3, H)))
    }

    for lengths in ([5, 1, 2], [5, 5, 5], [1, 5, 4]):
        feeds["lengths"] = np.array(lengths, dtype=np.int32)
        assert_near(kernels.run(feeds), runtime.run(feeds))


def test_network_with_another_recurrence_beside_is_left_to_the_runtime(on_kernels):
    weights = lstm_weights(2)
    again = {name + "1": array[:1] for name, array in weights.items()}
    both = lstm_node(direction="bidirectional")
    both.ClearField("input")
    both.input.extend(["x", "w", "r", "b", "lengths"])
    plain = lstm_node()
    plain.ClearField("input")
    plain.input.extend(["x", "w1", "r1", "b1", "lengths", "h0", "c0"])
    plain.output[:] = ["y1", "h1", "c1"]
    outputs = [
        TensorSpec(name=name, dtype="float32", shape=shape)
        for name, shape in (("y", ("T", 2, "B", H)), ("y1", ("T", 1, "B", H)))
    ]

    _, kernels, _ = on_kernels(
        model_of([both, plain], ["y", "y1"], weights | again), signature_of(*outputs), SessionOptions()
    )
    assert kernels is None


def test_layer_that_does_not_fit_is_left_to_the_runtime(bundles, on_kernels):
    _, kernels, _ = on_kernels(*of_bundle(bundles["steps"]), gpu=NumpyGpu(multiprocessors=0))

    assert kernels is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_random_traffic_over_states_on_the_gpu_is_answered_as_from_the_host(
    kind, seed, bundles, make_network, on_kernels
):
    runtime, kernels, _ = on_kernels(*of_bundle(bundles[kind]))
    answers = []
    for table in (LaneTable(runtime, MAX_LANES), DeviceLaneTable(kernels, MAX_LANES)):
        traffic = Traffic(table, make_network(kind), seed)
        for _ in range(60):
            traffic.turn()
        answers.append(traffic.finish())
        assert table.used_slots == 0

    host, device = answers
    assert len(host) == len(device) > 10
    for one, other in zip(host, device, strict=True):
        assert_near(other, one)


def test_outputs_that_stay_are_on_the_gpu_and_can_be_fed_again(bundles, make_network, on_kernels):
    network = make_network("steps")
    runtime, kernels, _ = on_kernels(*of_bundle(bundles["steps"]))
    feeds = network.feeds(2, 4)
    graph = kernels.bound()

    host, left = graph.run(feeds, {}, {"y"})
    graph.wait()
    assert set(host) == {"y"}
    assert all(isinstance(value, Placed) for value in left.values())
    expected = runtime.run(feeds)
    assert_near({name: value.numpy() for name, value in left.items()}, {name: expected[name] for name in left})

    states = {
        "h0": Placed(left["h_n"].gpu, left["h_n"].gpu.store(left["h_n"].numpy()), left["h_n"].shape),
        "c0": Placed(left["c_n"].gpu, left["c_n"].gpu.store(left["c_n"].numpy()), left["c_n"].shape),
    }
    again, _ = graph.run({"x": feeds["x"], "lengths": feeds["lengths"]}, states, {"y", "h_n", "c_n"})
    graph.wait()
    assert_near(again, runtime.run({**feeds, "h0": expected["h_n"], "c0": expected["c_n"]}))


def test_long_sequences_are_done_in_parts_with_the_same_answers(bundles, make_network, on_kernels, monkeypatch):
    monkeypatch.setattr("cellgate.serve.kernel.lstm_kernel._Z_BYTES", 4 * 4 * 3 * 5 * 2)  # two steps of five rows
    runtime, kernels, gpu = on_kernels(*of_bundle(bundles["steps"]))
    feeds = make_network("steps").feeds(5, 7, np.array([7, 1, 2, 5, 4], dtype=np.int32))

    assert_near(kernels.run(feeds), runtime.run(feeds))
    assert gpu.launched.count("advance") == 4


def test_tags_begin_again_over_new_memory_before_they_run_out(bundles, make_network, on_kernels, monkeypatch):
    monkeypatch.setattr("cellgate.serve.kernel.lstm_kernel._MOST_TAG", 20)
    runtime, kernels, gpu = on_kernels(*of_bundle(bundles["steps"]))
    feeds = make_network("steps").feeds(2, 6)
    freed = []
    gpu.free = lambda address: freed.append(gpu.memory.pop(address)) or gpu.last_tag.pop(address, None)

    for _ in range(4):
        assert_near(kernels.run(feeds), runtime.run(feeds))
    assert freed


def test_more_rows_than_a_launch_takes_are_left_to_the_runtime(bundles, make_network, on_kernels):
    gpu = NumpyGpu(multiprocessors=1)
    gpu.shared_bytes = 10_000
    runtime, kernels, _ = on_kernels(*of_bundle(bundles["steps"]), gpu=gpu)
    few, many = (make_network("steps").feeds(rows, 2) for rows in (64, 500))

    assert_near(kernels.run(few), runtime.run(few))
    assert gpu.launched.count("advance") == 1
    assert_near(kernels.run(many), runtime.run(many))
    assert gpu.launched.count("advance") == 1
    with pytest.raises(EngineError, match=r"expected at most [0-9]+ rows, found 500"):
        kernels.bound().run(many, {}, {"y"})


def test_layer_for_whose_rows_the_shared_memory_is_too_small_is_left_to_the_runtime(bundles, on_kernels):
    gpu = NumpyGpu(multiprocessors=1)
    gpu.shared_bytes = 2_000

    assert on_kernels(*of_bundle(bundles["steps"]), gpu=gpu)[1] is None


def test_failing_gpu_is_a_refused_run(bundles, make_network, on_kernels, monkeypatch):
    _, kernels, gpu = on_kernels(*of_bundle(bundles["steps"]))
    monkeypatch.setattr(gpu, "launch", lambda *_args, **_options: 1 / 0)

    with pytest.raises(EngineError, match="found it refused"):
        kernels.run(make_network("steps").feeds(2, 3))


def test_closed_runtime_and_empty_batches_are_refused(bundles, make_network, on_kernels):
    _, kernels, _ = on_kernels(*of_bundle(bundles["steps"]))
    feeds = make_network("steps").feeds(2, 3)

    with pytest.raises(EngineError, match="expected no dimension to be zero"):
        kernels.run({**feeds, "x": feeds["x"][:0]})
    kernels.close()
    with pytest.raises(EngineError, match="found it closed"):
        kernels.run(feeds)


def test_closing_gives_the_gpus_memory_back(bundles, make_network, on_kernels):
    _, kernels, gpu = on_kernels(*of_bundle(bundles["steps"]))
    kernels.run(make_network("steps").feeds(2, 3))

    assert gpu.memory
    kernels.close()
    kernels.close()
    assert not gpu.memory
