"""The GPU through NVIDIA's bindings, played here: what is called, in which order, and what comes of errors."""

import ctypes
import importlib
import sys
import types
from enum import IntEnum

import numpy as np
import pytest

from cellgate.serve.kernel.gpu import GpuError


class Status(IntEnum):
    SUCCESS = 0
    OUT_OF_MEMORY = 2


class Bindings:
    """Both modules: every call is noted, and may be given an answer or an error; memory is the host's."""

    def __init__(self):
        self.calls = []
        self.memory = {}
        self.failing = set()
        self.answers = {
            "cuDeviceGet": ("device",),
            "cuDevicePrimaryCtxRetain": ("context",),
            "cuStreamCreate": (77,),
            "cuDeviceGetAttribute": (8,),
            "cuModuleLoadData": ("module",),
            "cuModuleGetFunction": ("kernel",),
            "cuMemGetInfo": (1000, 2000),
            "nvrtcCreateProgram": ("program",),
            "nvrtcGetProgramLogSize": (5,),
            "nvrtcGetCUBINSize": (3,),
        }

    def __getattr__(self, name):
        if name in ("CUdevice_attribute", "CUfunction_attribute", "CUstream_flags"):
            return types.SimpleNamespace(**{word: word for word in WORDS})

        def call(*arguments):
            self.calls.append((name, *arguments))
            if name in self.failing:
                return (Status.OUT_OF_MEMORY,)
            return (Status.SUCCESS, *self.act(name, arguments))

        call.__name__ = name
        return call

    def act(self, name, arguments):
        if name in ("cuMemAlloc", "cuMemHostAlloc"):
            made = ctypes.create_string_buffer(arguments[0])
            self.memory[ctypes.addressof(made)] = made
            return (ctypes.addressof(made),)
        if name in ("cuMemFree", "cuMemFreeHost"):
            del self.memory[arguments[0]]
        if name in ("cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync"):
            ctypes.memmove(*arguments[:3])
        return self.answers.get(name, ())

    def names(self):
        return [call[0] for call in self.calls]


WORDS = (
    "CU_STREAM_NON_BLOCKING",
    "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT",
    "CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR",
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR",
    "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
)


@pytest.fixture
def bindings(monkeypatch):
    played = Bindings()
    package = types.ModuleType("cuda.bindings")
    package.driver = package.nvrtc = played
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    monkeypatch.delitem(sys.modules, "cellgate.serve.kernel.cuda_gpu", raising=False)
    yield played
    sys.modules.pop("cellgate.serve.kernel.cuda_gpu", None)


@pytest.fixture
def gpu(bindings, monkeypatch):
    module = importlib.import_module("cellgate.serve.kernel.cuda_gpu")
    monkeypatch.setattr(module, "_PINNED_BYTES", 1024)
    return module.CudaGpu()


def test_it_says_what_the_driver_says(gpu):
    assert (gpu.multiprocessors, gpu.shared_bytes, gpu.capability, gpu.stream) == (8, 8, (8, 8), 77)
    assert gpu.free_bytes() == 1000


def test_arrays_go_through_pinned_memory_and_back_when_somebody_waits(gpu, bindings):
    sent, got = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
    place = gpu.allocate(sent.nbytes)
    gpu.upload(sent, place)
    sent.fill(9)  # it may change at once
    gpu.download(place, got)
    assert not got.any()
    gpu.synchronize()

    assert got.tolist() == [0, 1, 2, 3, 4, 5]
    assert bindings.names().count("cuStreamSynchronize") == 1


def test_pinned_memory_that_is_used_up_is_waited_for_and_more_than_there_is_goes_without(gpu, bindings):
    place, half, large = gpu.allocate(8192), np.zeros(150, np.float32), np.ones(2000, np.float32)
    for _ in range(3):
        gpu.upload(half, place)
    assert bindings.names().count("cuStreamSynchronize") == 2
    gpu.upload(large, place)
    got = np.zeros_like(large)
    gpu.download(place, got)

    assert got.all()
    assert bindings.names().count("cuStreamSynchronize") == 2


def test_a_failed_call_is_named(gpu, bindings):
    bindings.failing = {"cuMemAlloc"}

    with pytest.raises(GpuError, match=r"^cuMemAlloc: expected success, found OUT_OF_MEMORY$"):
        gpu.allocate(10)


def test_library_that_is_missing_is_named_as_the_bindings_say_it(bindings):
    def missing(_flags):
        raise RuntimeError("libcuda.so.1 not found")

    missing.__name__ = "cuInit"
    bindings.cuInit = missing
    module = importlib.import_module("cellgate.serve.kernel.cuda_gpu")

    with pytest.raises(GpuError, match=r"^cuInit: libcuda\.so\.1 not found$"):
        module.CudaGpu()


def test_a_source_is_compiled_once_for_its_macros(gpu, bindings):
    for hidden in (64, 64, 128):
        assert gpu.compile("a.cu", "text", {"HIDDEN": hidden}, {"advance": 99, "move": 0}) == {
            "advance": "kernel",
            "move": "kernel",
        }

    compiled = [call for call in bindings.calls if call[0] == "nvrtcCompileProgram"]
    assert [call[3] for call in compiled] == [
        [b"--std=c++17", b"--gpu-architecture=sm_88", b"-DHIDDEN=64"],
        [b"--std=c++17", b"--gpu-architecture=sm_88", b"-DHIDDEN=128"],
    ]
    assert bindings.names().count("cuFuncSetAttribute") == 2


def test_what_the_compiler_says_is_passed_on(gpu, bindings):
    bindings.failing = {"nvrtcCompileProgram"}
    write, name = bindings.nvrtcGetProgramLog, "nvrtcGetProgramLog"

    def log(_program, into):
        into[:] = b"oops\0"
        return (Status.SUCCESS,)

    setattr(bindings, name, log)
    del write

    with pytest.raises(GpuError, match=r"^a\.cu: expected NVRTC to compile it, found oops$"):
        gpu.compile("a.cu", "text", {}, {"advance": 0})


def test_blocks_that_wait_for_each_other_are_launched_together(gpu, bindings):
    gpu.launch("kernel", (3, 2), 64, [ctypes.c_int(5), ctypes.c_float(1)], shared_bytes=32, together=True)
    gpu.launch("kernel", (3, 2), 64, [ctypes.c_int(5)])

    assert bindings.calls[-2][:10] == ("cuLaunchCooperativeKernel", "kernel", 3, 2, 1, 64, 1, 1, 32, 77)
    assert bindings.calls[-1][:10] == ("cuLaunchKernel", "kernel", 3, 2, 1, 64, 1, 1, 0, 77)


@pytest.mark.parametrize("failing", [set(), {"cuStreamSynchronize"}, {"cuModuleUnload", "cuStreamDestroy"}])
def test_closing_gives_all_back_even_where_the_gpu_has_failed(gpu, bindings, failing):
    for _ in range(3):
        gpu.allocate(10)
    gpu.free(gpu.allocate(5))
    gpu.compile("a.cu", "text", {}, {"advance": 0})
    bindings.failing = failing
    gpu.close()
    gpu.close()

    assert not bindings.memory
    assert {"cuModuleUnload", "cuStreamDestroy", "cuDevicePrimaryCtxRelease"} <= set(bindings.names())
    assert bindings.names().count("cuStreamDestroy") == 1
    with pytest.raises(GpuError, match="expected the GPU open, found it closed"):
        gpu.upload(np.zeros(1, np.float32), 0)
