"""Networks on the kernels, with NumPy in the place of the GPU and onnxruntime's CPU provider in that of its CUDA."""

import onnxruntime
import pytest

from cellgate.serve.kernel.kernel_graph import KernelGraph
from cellgate.serve.runtime.kernel_runtime import KernelRuntime
from cellgate.serve.runtime.onnx_runtime import OnnxRuntime

from .numpy_gpu import NumpyGpu


class CpuParts:
    device = "cpu"

    def __init__(self):
        self.opened = []

    def open(self, model):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.opened.append(session)
        return session


@pytest.fixture
def on_kernels():
    """Open a graph as `open_kernels` does: (runtime, the same on the kernels, the GPU)."""

    def open_both(model, signature, options, gpu=None):
        gpu = gpu or NumpyGpu()
        runtime = OnnxRuntime(model, signature, options)
        graph = KernelGraph.open(gpu, model, signature, CpuParts())
        return runtime, graph and KernelRuntime(runtime, graph), gpu

    return open_both
