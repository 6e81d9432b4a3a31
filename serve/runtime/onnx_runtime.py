"""onnxruntime behind the `Runtime` interface.

Rules of this file: what a session is, `onnx_session` knows; here it is only asked.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...bundle.manifest import GraphSignature, SessionOptions, TensorSpec
from ..arrays import Array, Arrays
from ..errors import EngineError
from ..start_errors import ServerStartError
from .bound_graph import BoundGraph
from .device_states import DeviceStates
from .onnx_session import Parts, open_session, placement_in, runtime_version
from .placement import CPU_PROVIDER, CUDA_PROVIDER
from .runtime import RuntimeFacts
from .state_graph import state_graph
from .tensor_check import check_tensors

_BESIDE = "graph beside the model"


class OnnxRuntime:
    """An onnxruntime session behind the `Runtime` interface.

    Args:
        model: the bytes of the graph, digest already checked.
        signature: what the manifest says the graph takes and returns.
        options: the manifest's session options.
        device: "cpu" or "cuda".
        threads: threads inside one run.
        graph: name of the bundle's file that the bytes are of.
        precision: dtype of weights and activations, from the manifest.
        tf32: whether CUDA may round the factors of float32 products to TF32.
        reason: why this device.
        notes: further things that an operator should read.

    Raises:
        ServerStartError: an option is not allowed, or onnxruntime cannot load the model.
        GraphMismatchError: the model has other tensors than the signature says.
    """

    def __init__(
        self,
        model: bytes,
        signature: GraphSignature,
        options: SessionOptions,
        *,
        device: str = "cpu",
        threads: int = 1,
        graph: str = "model.onnx",
        precision: str = "float32",
        tf32: bool = False,
        reason: str = "asked for",
        notes: tuple[str, ...] = (),
    ) -> None:
        self._signature = signature
        self._options = options
        self._tf32 = tf32
        self._names = [spec.name for spec in signature.outputs]
        self._session: Any = open_session(graph, model, options, device, threads, tf32=tf32)
        provider = self._session.get_providers()[0]
        self._facts = RuntimeFacts(
            device="cuda" if provider == CUDA_PROVIDER else "cpu",
            provider=provider,
            threads=threads,
            version=runtime_version(),
            reason=reason,
            notes=notes,
            graph=graph,
            precision="tf32" if tf32 and precision == "float32" and provider == CUDA_PROVIDER else precision,
            placement=placement_in(self._session, CUDA_PROVIDER if device == "cuda" else CPU_PROVIDER),
        )
        check_tensors(graph, "inputs", signature.inputs, self._session.get_inputs())
        check_tensors(graph, "outputs", signature.outputs, self._session.get_outputs())

    @property
    def signature(self) -> GraphSignature:
        """Names, dtypes and shapes of the graph."""
        return self._signature

    @property
    def facts(self) -> RuntimeFacts:
        """What the runtime says about itself."""
        return self._facts

    @property
    def provider(self) -> str:
        """The first execution provider that onnxruntime really uses."""
        return self._facts.provider

    @property
    def device(self) -> str:
        """The device: "cpu" or "cuda"."""
        return self._facts.device

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """Run the graph once; see `Runtime.run`.

        Raises:
            EngineError: closed, a zero dimension, or refused by onnxruntime; gives the shapes.
        """
        session = self._session  # a concurrent close lets this run end
        self.check_feeds(feeds)
        try:
            found = session.run(self._names, feeds)
        except Exception as err:  # onnxruntime raises a dozen unrelated classes
            raise EngineError(f"runtime: expected it to run the batch, found it refused ({_shapes(feeds)})") from err
        return dict(zip(self._names, found, strict=True))

    def check_feeds(self, feeds: Arrays) -> None:
        """Refuse what must not get any further.

        Raises:
            EngineError: closed, or a zero dimension.
        """
        if self._session is None:
            raise EngineError(f"runtime: expected it open, found it closed ({_shapes(feeds)})")
        for array in feeds.values():
            # onnxruntime 1.32 aborts the whole process at B=0: nothing may get past this line, whoever calls.
            if 0 in array.shape:
                raise EngineError(f"runtime: expected no dimension to be zero, found {_shapes(feeds)}")

    def noting(self, note: str) -> "OnnxRuntime":
        """Add a note to the facts; return itself."""
        self._facts = replace(self._facts, notes=(*self._facts.notes, note))
        return self

    def parts_on(self, stream: int) -> "Parts":
        """Return a way to open parts of the graph whose work is queued on a CUDA stream; see `Parts`."""
        return Parts(stream, self._options)

    def bound(self) -> BoundGraph:
        """Return a way to run the graph with tensors left on the device; see `DeviceRuntime`."""
        return BoundGraph(self._session, self.device)

    def states(self, tensors: Sequence[tuple[TensorSpec, str]], slots: int) -> DeviceStates:
        """Return places for the states of lanes; see `DeviceRuntime`."""
        return DeviceStates(self.open_beside(state_graph([spec for spec, _ in tensors])), tensors, slots)

    def open_beside(self, model: bytes) -> BoundGraph:
        """Open another, small graph on the same device.

        Raises:
            ServerStartError: it does not open, or leaves a node to another device.
        """
        session = open_session(_BESIDE, model, SessionOptions(), self.device, 1, tf32=self._tf32)
        elsewhere = placement_in(session, self.provider).elsewhere
        if elsewhere:
            found = ", ".join(elsewhere)
            raise ServerStartError(f"{_BESIDE}: expected every node on {self.provider}, found {found} elsewhere")
        return BoundGraph(session, self.device)

    def close(self) -> None:
        """Give the session back. Closing twice is fine."""
        self._session = None


def _shapes(feeds: Arrays) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
