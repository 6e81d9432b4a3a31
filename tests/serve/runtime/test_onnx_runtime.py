import os
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from cellgate.bundle.manifest import SessionOptions, TensorSpec
from cellgate.serve.errors import EngineError
from cellgate.serve.runtime.onnx_runtime import OnnxRuntime
from cellgate.serve.runtime.state_graph import state_graph
from cellgate.serve.start_errors import GraphMismatchError, ServerStartError


@pytest.fixture
def opened(bundles):
    bundle = bundles["steps"]
    runtime = OnnxRuntime(bundle.model, bundle.manifest.graph, bundle.manifest.session)
    yield runtime
    runtime.close()


def test_facts_say_where_and_with_what_it_runs(opened):
    assert (opened.device, opened.provider, opened.facts.threads) == ("cpu", "CPUExecutionProvider", 1)
    assert opened.facts.version == onnxruntime.__version__


def test_outputs_are_those_of_the_signature(opened, make_network):
    network = make_network("steps")

    found = opened.run(network.feeds(2, 3))

    assert [(name, array.shape) for name, array in found.items()] == [
        ("y", (2, 3, 4)),
        ("h_n", (1, 2, 3)),
        ("c_n", (1, 2, 3)),
    ]


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2)])
def test_zero_dimension_is_refused_where_the_library_would_abort_the_process(opened, make_network, shape):
    feeds = {**make_network("steps").feeds(2, 3), "x": np.zeros(shape, np.float32)}

    with pytest.raises(EngineError, match="expected no dimension to be zero, found x "):
        opened.run(feeds)


def test_batch_that_the_library_refuses_is_an_engine_error_with_shapes_and_cause(opened, make_network, capfd):
    feeds = {**make_network("steps").feeds(2, 3), "lengths": np.array([4, 9], np.int32)}

    with pytest.raises(EngineError, match=r"found it refused \(x \(2, 3, 2\), lengths \(2,\)") as caught:
        opened.run(feeds)

    assert caught.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")


def test_closed_runtime_refuses_to_run_and_closing_twice_is_fine(opened, make_network):
    opened.close()
    opened.close()

    with pytest.raises(EngineError, match="expected it open, found it closed"):
        opened.run(make_network("steps").feeds(1, 1))


@pytest.mark.parametrize("level", ["disable", "basic", "extended", "all"])
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_session_options_of_the_manifest_are_taken(bundles, make_network, level, mode):
    options = SessionOptions(
        graph_optimization_level=level, execution_mode=mode, config={"session.intra_op.allow_spinning": "0"}
    )
    bundle, network = bundles["last"], make_network("last")
    feeds = network.feeds(2, 3)

    runtime = OnnxRuntime(bundle.model, bundle.manifest.graph, options, threads=2)

    np.testing.assert_allclose(runtime.run(feeds)["y"], network.compute(feeds)["y"], rtol=0, atol=1e-5)


def test_option_that_could_name_a_file_is_refused(bundles):
    bundle = bundles["steps"]
    options = SessionOptions(config={"session.optimized_model_filepath": "/tmp/anything"})

    with pytest.raises(ServerStartError, match=r"session\.config: expected only .*, found 'session.optimized"):
        OnnxRuntime(bundle.model, bundle.manifest.graph, options)


def test_bytes_that_are_no_model_are_refused(bundles):
    with pytest.raises(ServerStartError, match=r"^model\.cuda\.onnx: expected onnxruntime to load it"):
        OnnxRuntime(b"\x00" * 100, bundles["steps"].manifest.graph, SessionOptions(), graph="model.cuda.onnx")


def _renamed(graph):
    return replace(graph, inputs=(replace(graph.inputs[0], name="z"), *graph.inputs[1:]))


def _other_output(graph):
    return replace(graph, outputs=graph.outputs[:-1])


def _other_dtype(graph):
    return replace(graph, inputs=(graph.inputs[0], replace(graph.inputs[1], dtype="int64"), *graph.inputs[2:]))


def _other_width(graph):
    return replace(graph, inputs=(replace(graph.inputs[0], shape=("B", "T", 3)), *graph.inputs[1:]))


def _other_rank(graph):
    return replace(graph, outputs=(TensorSpec(name="y", dtype="float32", shape=("B", 4)), *graph.outputs[1:]))


def _free_state(graph):
    return replace(graph, inputs=(*graph.inputs[:2], replace(graph.inputs[2], shape=("B", "B", 3)), graph.inputs[3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_renamed, "inputs: expected z, lengths, h0, c0 as in the manifest, found x, lengths"),
        (_other_output, "outputs: expected y, h_n as in the manifest, found y, h_n, c_n"),
        (_other_dtype, r"inputs\.lengths: expected int64 .*, found tensor\(int32\)"),
        (_other_width, r"inputs\.x: expected \['B', 'T', 3\] .*, found \['B', 'T', 2\]"),
        (_other_rank, r"outputs\.y: expected \['B', 4\]"),
        (_free_state, r"inputs\.h0: expected \['B', 'B', 3\]"),
    ],
)
def test_model_with_other_tensors_than_the_manifest_says_is_refused(bundles, change, message):
    bundle = bundles["steps"]

    with pytest.raises(GraphMismatchError, match=rf"^model\.cuda\.onnx: {message}"):
        OnnxRuntime(bundle.model, change(bundle.manifest.graph), SessionOptions(), graph="model.cuda.onnx")


def test_cuda_that_is_not_there_runs_on_the_cpu_and_says_so(bundles, monkeypatch):
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: None, raising=False)
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    bundle = bundles["steps"]

    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        runtime = OnnxRuntime(bundle.model, bundle.manifest.graph, SessionOptions(), device="cuda")

    assert (runtime.device, runtime.provider) == ("cpu", "CPUExecutionProvider")


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize(("tf32", "expected"), [(False, "0"), (True, None)])
def test_tf32_is_off_for_every_library_of_cuda_unless_asked_for(bundles, monkeypatch, tf32, expected):
    """The provider's option does not reach its recurrent kernels, NVIDIA's variable does."""
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    bundle = bundles["steps"]

    runtime = OnnxRuntime(bundle.model, bundle.manifest.graph, SessionOptions(), device="cuda", tf32=tf32)

    assert os.environ.get("NVIDIA_TF32_OVERRIDE") == expected
    assert runtime.device == "cuda" or runtime.facts.precision == "float32"


def test_graph_beside_the_model_must_run_where_the_model_does(opened, monkeypatch):
    spec = TensorSpec(name="h0", dtype="float32", shape=(1, "B", 3))
    assert opened.open_beside(state_graph([spec]))

    monkeypatch.setattr(OnnxRuntime, "provider", "CUDAExecutionProvider")
    with pytest.raises(
        ServerStartError, match="expected every node on CUDAExecutionProvider, found Concat all_0, Gather"
    ):
        opened.open_beside(state_graph([spec]))


def test_bound_graph_never_runs_an_empty_batch(opened, make_network):
    feeds = make_network("steps").feeds(1, 2)
    empty = {**feeds, "x": feeds["x"][:0]}

    with pytest.raises(EngineError, match="expected no dimension to be zero, found x \\(0, 2, 2\\)"):
        opened.bound().run(empty, {}, ())
