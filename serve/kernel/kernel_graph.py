"""A network that is run by the project's own kernels, and by the runtime where those end.

Rules of this file: no onnxruntime import; a session comes from whoever opened it. Memory between steps belongs to the
network, grows and stays.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from ...bundle.manifest import GraphSignature, TensorSpec
from ..arrays import Array, Arrays
from ..errors import EngineError
from ..start_errors import ServerStartError
from .cut import boundary, cut, part_of_model
from .fuse import fuse, homes
from .gpu import Gpu, GpuError
from .graph_reader import Graph, read_graph
from .kernel_plan import plan_kernel
from .kernel_run import DeviceTensor, KernelRun, Network, Part
from .kernel_states import KernelStates
from .lstm_kernel import LstmKernel
from .memory import Scratch
from .products import Products, Weights
from .steps import Lstm, Product, Stage

_KINDS: Final = {"float32": 1, "int32": 6, "int64": 7, "float16": 10}
_TYPES: Final = {
    "tensor(float)": 1,
    "tensor(uint8)": 2,
    "tensor(int8)": 3,
    "tensor(int32)": 6,
    "tensor(int64)": 7,
    "tensor(bool)": 9,
    "tensor(float16)": 10,
    "tensor(double)": 11,
}
_LEAST_ROWS: Final = 64  # the most that a run of the lanes has
_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN", "Scan", "Loop"})


class Parts(Protocol):
    """The runtime, as far as it is needed here: its work is on the GPU's stream, and done when a run returns.

    Attributes:
        device: the runtime's name of the device.
    """

    device: str

    def open(self, model: bytes) -> Any:
        """Open a model; return its session."""
        ...


class KernelGraph:
    """`BoundRuns` of a network; its device tensors are good until the next run.

    Args:
        gpu: where.
        graph: of the network.
        stages: of the graph.
        signature: of the graph.
        parts: opens what stays with the runtime.

    Raises:
        GpuError: a kernel cannot be compiled.
        ServerStartError: a part does not open.
    """

    def __init__(
        self, gpu: Gpu, graph: Graph, stages: Sequence[Stage], signature: GraphSignature, parts: Parts
    ) -> None:
        self._gpu = gpu
        self._own_nodes = sum(len(stage.steps) for stage in stages)
        stages = fuse(stages, graph.outputs)
        self._steps = [step for stage in stages for step in stage.steps]
        self._nodes = sum(len(stage.nodes) for stage in stages)
        self._products = Products(gpu)
        scratch = Scratch(gpu)
        self._network = Network(
            gpu=gpu,
            signature=signature,
            products=self._products,
            stages=tuple(zip(stages, _open_parts(graph, stages, signature, parts), strict=True)),
            homes=homes(stages),
            layers={step.outputs: self._layer(step, scratch) for step in self._steps if isinstance(step, Lstm)},
            weights={step.outputs: Weights(gpu, step.w, step.b) for step in self._steps if isinstance(step, Product)},
        )

    @classmethod
    def open(cls, gpu: Gpu, model: bytes, signature: GraphSignature, parts: Parts) -> "KernelGraph | None":
        """Return the network on the kernels; None where not every recurrent node of it is theirs. Raises as the class.

        A network that waits for another kernel at every step anyway gains nothing, and pays for the cuts.
        """
        graph = read_graph(model)
        stages = _cut(graph, signature, lambda hidden: _fits(gpu, hidden))
        return cls(gpu, graph, stages, signature, parts) if _is_ours(stages) else None

    @property
    def own_nodes(self) -> int:
        """Nodes of the graph that the kernels run."""
        return self._own_nodes

    @property
    def other_nodes(self) -> int:
        """Nodes that the runtime runs."""
        return self._nodes

    def states(self, tensors: Sequence[tuple[TensorSpec, str]], slots: int) -> KernelStates:
        """Return a table for the states of lanes beside this network; see `KernelStates`."""
        try:
            self._gpu.enter()
            return KernelStates(self._gpu, self._products, tensors, slots)
        except GpuError as err:
            raise ServerStartError(f"states: expected room for {slots} on the GPU, found {err}") from err

    def run(
        self, feeds: Arrays, kept: Mapping[str, DeviceTensor], wanted: Collection[str]
    ) -> tuple[dict[str, Array], dict[str, DeviceTensor]]:
        """As `BoundRuns.run`; one thread at a time, until `wait`.

        Raises:
            EngineError: a kernel or the runtime refused.
        """
        try:
            return KernelRun(self._network, feeds, kept, wanted).finish()
        except EngineError:
            raise
        except Exception as err:  # onnxruntime raises a dozen unrelated classes
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
            raise EngineError(f"runtime: expected it to run the batch, found it refused ({shapes})") from err

    def wait(self) -> None:
        """Wait until the last run is done.

        Raises:
            EngineError: it failed on the GPU.
        """
        try:
            self._gpu.enter()
            self._gpu.synchronize()
        except GpuError as err:
            raise EngineError(f"runtime: expected the GPU to end the run, found {err}") from err

    def close(self) -> None:
        """Give the runtime's parts and the GPU's memory back."""
        self._network.stages = ()
        self._gpu.close()

    def _layer(self, step: Lstm, scratch: Scratch) -> LstmKernel:
        plan = plan_kernel(step.r.shape[1], self._gpu.multiprocessors)
        assert plan is not None
        return LstmKernel(self._gpu, self._products, plan, (step.w, step.r, step.b), scratch)


def _fits(gpu: Gpu, hidden: int) -> bool:
    """Whether a layer's weights fit the registers, and the rows of a run of the lanes the shared memory."""
    plan = plan_kernel(hidden, gpu.multiprocessors)
    return plan is not None and plan.most_rows(gpu.multiprocessors, gpu.shared_bytes) >= _LEAST_ROWS


def may_run(model: bytes, signature: GraphSignature) -> bool:
    """Whether the kernels would run a network on a GPU that is large enough; what cannot be read is not theirs."""
    try:
        return _is_ours(_cut(read_graph(model), signature, lambda _hidden: True))
    except ValueError:  # WireError and text that is none among it
        return False


def _cut(graph: Graph, signature: GraphSignature, fits: Callable[[int], bool]) -> list[Stage]:
    floats = [spec.name for spec in signature.inputs if spec.dtype == "float32"]
    return cut(graph, floats, signature.lengths, fits)


def _is_ours(stages: Sequence[Stage]) -> bool:
    left = any(node.operator in _RECURRENT for stage in stages for node in stage.nodes)
    return not left and any(isinstance(step, Lstm) for stage in stages for step in stage.steps)


def _open_parts(graph: Graph, stages: Sequence[Stage], signature: GraphSignature, parts: Parts) -> list[Part | None]:
    kinds = {spec.name: _KINDS[spec.dtype] for spec in signature.inputs}
    found: list[Part | None] = []
    for place, stage in enumerate(stages):
        if not stage.nodes:
            found.append(None)
            continue
        inputs, outputs = boundary(graph, stages, place)
        if not outputs:  # nobody reads what these nodes compute
            found.append(None)
            continue
        typed = [(name, kinds.get(name, _KINDS["float32"])) for name in inputs]
        session = parts.open(part_of_model(graph, stage, typed, outputs))
        for value in session.get_outputs():
            if value.type not in _TYPES:
                raise ServerStartError(f"{value.name}: expected a tensor of numbers between layers, found {value.type}")
            kinds[value.name] = _TYPES[value.type]
        read = frozenset(name for stage in stages for name in _read_by(stage)) & frozenset(outputs)
        found.append(Part(session=session, device=parts.device, inputs=inputs, outputs=outputs, read=read))
    return found


def _read_by(stage: Stage) -> Iterator[str]:
    for one in (*stage.nodes, *stage.steps):
        yield from one.inputs
    for node in stage.nodes:
        yield from node.inner
