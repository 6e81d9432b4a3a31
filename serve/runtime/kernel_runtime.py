"""The project's own kernels behind the `Runtime` interface, where they take over from onnxruntime's on CUDA.

onnxruntime gives an LSTM to cuDNN's standard algorithm: a launch or two for every step, rows whose bits hang on their
neighbours, and no end of a row before the end of the batch. `kernel/` does without all three. What the kernels do not
know, onnxruntime still runs, in parts of the graph between them.

Rules of this file: it only chooses; nobody is told that it worked before the golden cases have come out right.
"""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from ...bundle.golden import GoldenCase
from ...bundle.manifest import GraphSignature, TensorSpec
from ...bundle.reader import Bundle
from ..arrays import Array, Arrays
from ..kernel.gpu import GpuError
from ..kernel.kernel_graph import KernelGraph, may_run
from ..kernel.kernel_run import TooManyRowsError
from ..kernel.kernel_states import KernelStates
from ..start_errors import ServerStartError
from .bound_graph import BoundRuns
from .golden_check import check_golden
from .onnx_runtime import OnnxRuntime
from .placement import OWN_KERNELS, Placement
from .runtime import RuntimeFacts
from .wrapped_runtime import WrappedRuntime

_LEFT = "LSTM layers are left to onnxruntime"
_MANY_ROWS = (64, 600)  # the most of a run of the lanes; and more than any group of blocks takes word by word


def with_kernels(runtime: OnnxRuntime, bundle: Bundle) -> "OnnxRuntime | KernelRuntime":
    """Return the runtime with its LSTM layers by the project's kernels, or as it is where they do not apply.

    Args:
        runtime: open on CUDA, in full float32.
        bundle: of the runtime.

    Returns:
        The runtime; a note among its facts says why the kernels were left out, if that is a surprise.
    """
    try:
        found = open_kernels(runtime, bundle.graph_for("cuda")[1])
    except KernelsLeftOutError as err:
        return runtime.noting(str(err))
    if found is None:
        return runtime
    result = check_golden(found, bundle)
    if result.passed:
        result = check_golden(found, replace(bundle, golden=many_rows(bundle.golden, runtime.signature)))
    if result.passed:
        return found
    found.leave()
    return runtime.noting(f"{_LEFT}, for cellgate's own kernels did not reproduce the golden cases: {result.summary()}")


def many_rows(golden: Sequence[GoldenCase], signature: GraphSignature) -> tuple[GoldenCase, ...]:
    """Return a short case with its rows again and again: the kernels do many rows in another way than few."""
    takes = signature.sequence
    case = min(golden, key=lambda case: (case.inputs[takes].shape[1] == 1, case.inputs[takes].size))
    rows = len(case.inputs[takes])
    axes = {spec.name: spec.shape.index("B") for spec in (*signature.inputs, *signature.outputs)}

    def again(arrays: Arrays, count: int) -> dict[str, Array]:
        return {name: array.take(np.arange(count) % rows, axis=axes[name]) for name, array in arrays.items()}

    return tuple(
        replace(
            case, id=f"{case.id} in {count} rows", inputs=again(case.inputs, count), outputs=again(case.outputs, count)
        )
        for count in _MANY_ROWS
    )


class KernelsLeftOutError(Exception):
    """The kernels cannot be used here; says why."""


def open_kernels(runtime: OnnxRuntime, model: bytes) -> "KernelRuntime | None":
    """Open a graph on the kernels, beside the runtime; None where they do not apply to it.

    Raises:
        KernelsLeftOutError: they would apply, but cannot be used here.
    """
    if not may_run(model, runtime.signature):
        return None
    try:
        from ..kernel.cuda_gpu import CudaGpu  # noqa: PLC0415 - NVIDIA's bindings come with the extra gpu
    except ImportError as err:
        raise KernelsLeftOutError(f"{_LEFT}, for the package cuda-bindings is missing; install the extra gpu") from err
    with ExitStack() as opened:
        try:
            gpu = CudaGpu()
            opened.callback(gpu.close)
            graph = KernelGraph.open(gpu, model, runtime.signature, runtime.parts_on(gpu.stream))
        except (GpuError, ServerStartError) as err:
            raise KernelsLeftOutError(f"{_LEFT}, for {err}") from err
        if graph is None:
            return None
        opened.pop_all()
        return KernelRuntime(runtime, graph)


class KernelRuntime(WrappedRuntime[OnnxRuntime]):
    """A runtime whose graph is run by the kernels.

    Args:
        runtime: whole, on the same device.
        graph: of the same model.
    """

    def __init__(self, runtime: OnnxRuntime, graph: KernelGraph) -> None:
        super().__init__(runtime)
        self._graph = graph
        self._lock = threading.Lock()
        self._names = [spec.name for spec in runtime.signature.outputs]
        counts = ((OWN_KERNELS, graph.own_nodes), (runtime.provider, graph.other_nodes))
        placement = Placement(counts=tuple((name, count) for name, count in counts if count))
        self._facts = replace(runtime.facts, placement=placement)

    @property
    def facts(self) -> RuntimeFacts:
        """The runtime's, with the nodes that the kernels run."""
        return self._facts

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """Run the graph once; see `Runtime.run`.

        Raises:
            EngineError: closed, a zero dimension, or refused.
        """
        self._runtime.check_feeds(feeds)
        try:
            with self._lock:
                found, _ = self._graph.run(feeds, {}, self._names)
                self._graph.wait()
        except TooManyRowsError:  # more than any run of the lanes has
            return self._runtime.run(feeds)
        return {name: found[name] for name in self._names}

    def bound(self) -> BoundRuns:
        """Return a way to run the graph with tensors left on the device; see `DeviceRuntime`."""
        return self._graph

    def states(self, tensors: Sequence[tuple[TensorSpec, str]], slots: int) -> KernelStates:
        """Return a table for the states of lanes; see `DeviceRuntime`."""
        return self._graph.states(tensors, slots)

    def leave(self) -> None:
        """Give the kernels' memory back, and leave the runtime open."""
        with self._lock:
            self._graph.close()

    def close(self) -> None:
        """Give the session and the kernels' memory back. Closing twice is fine."""
        self._runtime.close()
        self.leave()
