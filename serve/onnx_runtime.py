"""onnxruntime in this process, opened with the manifest's session options.

Rules of this file: the only one that imports onnxruntime. The package switched its telemetry off by environment
(`cellgate/__init__.py`) before this import; what the runtime itself offers for it is called as well.
"""

from typing import Any

import numpy as np
import onnxruntime

from ..bundle.manifest import GraphSignature, SessionOptions, TensorSpec
from .arrays import Array, Arrays
from .errors import EngineError, GraphMismatchError, ServerStartError, shown
from .runtime import RuntimeFacts

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"

_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_MODES = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
_ELEMENT_TYPES = {"float": "float32", "float16": "float16", "int32": "int32", "int64": "int64"}

# Entries that change arithmetic or threads. Others can name files or change how the model's bytes are read; a bundle
# does not get to do that.
_ALLOWED_ENTRIES = frozenset(
    {
        "session.set_denormal_as_zero",
        "session.intra_op.allow_spinning",
        "session.inter_op.allow_spinning",
        "session.dynamic_block_base",
        "session.disable_prepacking",
        "session.disable_quant_qdq",
        "session.enable_quant_qdq_cleanup",
        "session.disable_double_qdq_remover",
        "session.force_spinning_stop",
        "session.use_device_allocator_for_initializers",
        "optimization.enable_gelu_approximation",
        "optimization.disable_specified_optimizers",
        "mlas.enable_gemm_fastmath_arm64_bfloat16",
        "mlas.disable_kleidiai",
    }
)
# The runtime also raises what went wrong, so its own lines on stderr would only repeat it: 4 is "fatal".
_LOG_SEVERITY = 4
# TF32 keeps 10 bits of the mantissa: its error is some thousand times what the bundle's tolerances allow.
_CUDA_OPTIONS = {"use_tf32": "0"}


def offers_cuda() -> bool:
    """Whether the installed onnxruntime was built with CUDA. Says nothing about this machine."""
    return CUDA_PROVIDER in onnxruntime.get_available_providers()


def runtime_version() -> str:
    """Return the version of the installed onnxruntime."""
    return str(onnxruntime.__version__)


class OnnxRuntime:
    """An onnxruntime session behind the `Runtime` interface.

    Args:
        model: the bytes of model.onnx, digest already checked.
        signature: what the manifest says the graph takes and returns.
        options: the manifest's session options.
        device: "cpu" or "cuda".
        threads: threads inside one run.
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
        reason: str = "asked for",
        notes: tuple[str, ...] = (),
    ) -> None:
        self._signature = signature
        self._names = [spec.name for spec in signature.outputs]
        self._session: Any = _open_session(model, options, device, threads)
        provider = self._session.get_providers()[0]
        self._facts = RuntimeFacts(
            device="cuda" if provider == CUDA_PROVIDER else "cpu",
            provider=provider,
            threads=threads,
            version=runtime_version(),
            reason=reason,
            notes=notes,
        )
        _check_tensors("inputs", signature.inputs, self._session.get_inputs())
        _check_tensors("outputs", signature.outputs, self._session.get_outputs())

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
        if session is None:
            raise EngineError(f"runtime: expected it open, found it closed ({_shapes(feeds)})")
        for array in feeds.values():
            # onnxruntime 1.32 aborts the whole process at B=0: nothing may get past this line, whoever calls.
            if 0 in array.shape:
                raise EngineError(f"runtime: expected no dimension to be zero, found {_shapes(feeds)}")
        try:
            found = session.run(self._names, feeds)
        except Exception as err:  # onnxruntime raises a dozen unrelated classes
            raise EngineError(f"runtime: expected it to run the batch, found it refused ({_shapes(feeds)})") from err
        return dict(zip(self._names, found, strict=True))

    def close(self) -> None:
        """Give the session back. Closing twice is fine."""
        self._session = None


def _shapes(feeds: Arrays) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in feeds.items())


def _open_session(model: bytes, options: SessionOptions, device: str, threads: int) -> Any:
    foreign = sorted(options.config.keys() - _ALLOWED_ENTRIES)
    if foreign:
        raise ServerStartError(
            f"manifest.json: session.config: expected only {', '.join(sorted(_ALLOWED_ENTRIES))}, "
            f"found {shown(foreign[0])}; export the bundle again"
        )
    _switch_off_telemetry()
    providers: list[Any] = [CPU_PROVIDER]
    if device == "cuda":
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # the CUDA libraries of the nvidia-* packages are on no search path
        providers.insert(0, (CUDA_PROVIDER, _CUDA_OPTIONS))
    try:
        session = onnxruntime.InferenceSession(model, _session_options(options, threads), providers=providers)
    except Exception as err:  # onnxruntime raises a dozen unrelated classes
        raise ServerStartError(f"model.onnx: expected onnxruntime to load it, found: {err}; export again") from err
    session.disable_fallback()  # else a failed run would quietly open the model again on another provider
    return session


def _switch_off_telemetry() -> None:
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()


def _session_options(options: SessionOptions, threads: int) -> Any:
    found = onnxruntime.SessionOptions()
    found.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, _LEVELS[options.graph_optimization_level]
    )
    found.execution_mode = getattr(onnxruntime.ExecutionMode, _MODES[options.execution_mode])
    found.intra_op_num_threads = threads
    found.inter_op_num_threads = 1
    # Plans of memory are kept for each shape of inputs, and here nearly every run has another one.
    found.enable_mem_pattern = False
    found.log_severity_level = _LOG_SEVERITY
    for key, value in sorted(options.config.items()):
        found.add_session_config_entry(key, value)
    return found


def _check_tensors(what: str, specs: tuple[TensorSpec, ...], found: list[Any]) -> None:
    names = [tensor.name for tensor in found]
    expected = [spec.name for spec in specs]
    if names != expected:
        raise GraphMismatchError(what, ", ".join(expected), ", ".join(names))
    for spec, tensor in zip(specs, found, strict=True):
        element = _ELEMENT_TYPES.get(str(tensor.type).removeprefix("tensor(").removesuffix(")"))
        if element != np.dtype(spec.dtype).name:
            raise GraphMismatchError(f"{what}.{spec.name}", spec.dtype, str(tensor.type))
        if not _shapes_agree(spec.shape, tensor.shape):
            raise GraphMismatchError(f"{what}.{spec.name}", str(list(spec.shape)), str(tensor.shape))


def _shapes_agree(expected: tuple[int | str, ...], found: list[Any]) -> bool:
    """A free axis of the manifest is free in the model; a fixed one is equal, or unknown to the model."""
    if len(expected) != len(found):
        return False
    return all(
        not isinstance(has, int) if isinstance(wants, str) else has == wants or not isinstance(has, int)
        for wants, has in zip(expected, found, strict=True)
    )
