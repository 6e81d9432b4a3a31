"""When the project's kernels take over from onnxruntime, and what is said where they cannot."""

import sys
import types

import pytest

from cellgate.bundle.manifest import SessionOptions
from cellgate.serve.kernel.gpu import GpuError
from cellgate.serve.kernel.kernel_graph import may_run
from cellgate.serve.runtime.kernel_runtime import KernelRuntime, open_kernels, with_kernels
from cellgate.serve.runtime.onnx_runtime import OnnxRuntime
from cellgate.serve.runtime.onnx_session import Parts
from cellgate.serve.runtime.placement import OWN_KERNELS

from ..kernel.numpy_gpu import NumpyGpu

MODULE = "cellgate.serve.kernel.cuda_gpu"


@pytest.fixture
def runtime(bundles):
    bundle = bundles["steps"]
    return OnnxRuntime(bundle.model, bundle.manifest.graph, bundle.manifest.session)


@pytest.fixture
def gpu_is(monkeypatch):
    """Put a GPU in the place of NVIDIA's bindings; the parts of graphs are opened on the CPU."""

    def put(make):
        module = types.ModuleType(MODULE)
        module.CudaGpu = make
        monkeypatch.setitem(sys.modules, MODULE, module)
        monkeypatch.setattr(Parts, "device", "cpu")

    return put


def test_kernels_take_over_where_they_reproduce_the_golden_cases(runtime, bundles, gpu_is):
    gpu_is(NumpyGpu)
    found = with_kernels(runtime, bundles["steps"])

    assert isinstance(found, KernelRuntime)
    assert found.facts.notes == ()
    assert OWN_KERNELS in dict(found.facts.placement.counts)
    assert (found.device, found.provider, found.signature) == (runtime.device, runtime.provider, runtime.signature)


def test_kernels_that_compute_something_else_are_left_out_with_a_note(runtime, bundles, gpu_is):
    class Spoilt(NumpyGpu):
        def swap(self, grid, threads, given, found, A, B, C):
            super().swap(grid, threads, given, found, A, B, C)
            self.array(found, (A * B * C,))[0] += 1

    made = []
    gpu_is(lambda: made.append(Spoilt()) or made[0])

    assert with_kernels(runtime, bundles["steps"]) is runtime
    assert not made[0].memory
    (note,) = runtime.facts.notes
    assert note.startswith(
        "LSTM layers are left to onnxruntime, for cellgate's own kernels did not reproduce the golden cases: "
    )


def test_kernels_that_are_wrong_with_many_rows_alone_are_left_out(runtime, bundles, gpu_is):
    class Spoilt(NumpyGpu):
        def advance(self, macros, blocks, threads, rows):
            super().advance(macros, blocks, threads, rows)
            if rows.tagged is None:
                self.array(rows.h_n, (1,))[0] += 1

    gpu_is(lambda: Spoilt(multiprocessors=1))

    assert with_kernels(runtime, bundles["steps"]) is runtime
    (note,) = runtime.facts.notes
    assert "did not reproduce the golden cases: h_n off by 1 " in note
    assert "in 64 rows" in note or "in 600 rows" in note


def test_gpu_that_fails_is_a_note(runtime, bundles, gpu_is):
    def fail():
        raise GpuError("cuInit: expected success, found CUDA_ERROR_NO_DEVICE")

    gpu_is(fail)

    assert with_kernels(runtime, bundles["steps"]) is runtime
    assert runtime.facts.notes == (
        "LSTM layers are left to onnxruntime, for cuInit: expected success, found CUDA_ERROR_NO_DEVICE",
    )


def test_missing_package_is_a_note(runtime, bundles, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)

    assert with_kernels(runtime, bundles["steps"]) is runtime
    assert runtime.facts.notes == (
        "LSTM layers are left to onnxruntime, for the package cuda-bindings is missing; install the extra gpu",
    )


def test_network_without_such_layers_is_left_as_it_is_without_a_word(make_network, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    network = make_network("frames")  # its layer's lengths are not the caller's
    model, _ = network.model()
    runtime = OnnxRuntime(model, network.signature, SessionOptions())

    assert open_kernels(runtime, model) is None


@pytest.mark.parametrize("multiprocessors", [0, 132])
def test_gpu_that_is_not_used_is_given_back(runtime, bundles, gpu_is, monkeypatch, multiprocessors):
    class Gpu(NumpyGpu):
        closed = False

        def close(self):
            Gpu.closed = True

        def compile(self, name, source, macros, shared):
            raise GpuError(f"{name}: expected NVRTC to compile it, found no compiler")

    gpu_is(lambda: Gpu(multiprocessors))

    assert with_kernels(runtime, bundles["steps"]) is runtime
    assert Gpu.closed
    assert bool(runtime.facts.notes) is bool(multiprocessors)


def test_model_that_cannot_be_read_is_not_for_the_kernels(bundles):
    signature = bundles["steps"].manifest.graph

    assert may_run(bundles["steps"].model, signature)
    assert not may_run(bundles["steps"].model[:-3], signature)
    assert not may_run(b"no model", signature)
