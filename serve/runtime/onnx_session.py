"""Sessions of onnxruntime in this process, opened with the manifest's session options.

Rules of this file: the only one that imports onnxruntime. The package switched its telemetry off by environment
(`cellgate/__init__.py`) before this import; what the runtime itself offers for it is called as well.
"""

import os
from typing import Any

import onnxruntime

from ...bundle.manifest import SessionOptions
from ..errors import shown
from ..start_errors import ServerStartError
from .placement import CPU_PROVIDER, CUDA_PROVIDER, Placement, nodes_of_assignment, placement_of

_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_MODES = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}

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
_RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"


def offers_cuda() -> bool:
    """Whether the installed onnxruntime was built with CUDA. Says nothing about this machine."""
    return CUDA_PROVIDER in onnxruntime.get_available_providers()


def runtime_version() -> str:
    """Return the version of the installed onnxruntime."""
    return str(onnxruntime.__version__)


class Parts:
    """Opens parts of a graph on CUDA whose work is queued on a stream of somebody else.

    Their runs end when what they queued is done: without that wait onnxruntime 1.31 frees its pinned buffers from a
    callback of the stream, which CUDA forbids, and the process dies.

    Args:
        stream: its handle.
        options: of the whole graph.
    """

    device = "cuda"

    def __init__(self, stream: int, options: SessionOptions) -> None:
        self._stream = stream
        self._options = options

    def open(self, model: bytes) -> Any:
        """Open a part.

        Raises:
            ServerStartError: it does not open.
        """
        return open_session("part of the model", model, self._options, "cuda", 1, tf32=False, stream=self._stream)


def open_session(
    graph: str,
    model: bytes,
    options: SessionOptions,
    device: str,
    threads: int,
    *,
    tf32: bool,
    stream: int | None = None,
) -> Any:
    """Open a model.

    Args:
        graph: name of it, for messages.
        model: its bytes.
        options: of the manifest.
        device: "cpu" or "cuda".
        threads: threads inside one run.
        tf32: whether CUDA may round the factors of float32 products to TF32.
        stream: a CUDA stream of somebody else, on which the work is queued.

    Raises:
        ServerStartError: an option is not allowed, or onnxruntime cannot load the model.
    """
    foreign = sorted(options.config.keys() - _ALLOWED_ENTRIES)
    if foreign:
        raise ServerStartError(
            f"manifest.json: session.config: expected only {', '.join(sorted(_ALLOWED_ENTRIES))}, "
            f"found {shown(foreign[0])}; export the bundle again"
        )
    _switch_off_telemetry()
    providers: list[Any] = [CPU_PROVIDER]
    if device == "cuda":
        own_stream = {} if stream is None else {"user_compute_stream": str(stream)}
        providers.insert(0, (CUDA_PROVIDER, {**_prepare_cuda(tf32=tf32), **own_stream}))
    try:
        # Without enable_fallback=0 a provider that fails is told of on stdout, and the model opened on the CPU.
        session = onnxruntime.InferenceSession(
            model, _session_options(options, threads), providers=providers, enable_fallback=0
        )
    except Exception as err:  # onnxruntime raises a dozen unrelated classes
        remedy = "export again" if device == "cpu" else "use --device cpu, or export again"
        raise ServerStartError(f"{graph}: expected onnxruntime to load it, found: {err}; {remedy}") from err
    session.disable_fallback()  # else a failed run would quietly open the model again on another provider
    return session


def _prepare_cuda(*, tf32: bool) -> dict[str, str]:
    """Load CUDA's libraries and return the provider's options.

    TF32 keeps 11 bits of a factor where float32 has 24. The provider's option does not reach its recurrent kernels:
    they ask cuDNN for CUDNN_DEFAULT_MATH whatever it says (cudnn_rnn_base.h of onnxruntime), which allows TF32 from
    Ampere on. NVIDIA's own variable reaches every library, if it is set before they are loaded.
    """
    if not tf32:
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # the CUDA libraries of the nvidia-* packages are on no search path
    return {"use_tf32": "1" if tf32 else "0"}


def placement_in(session: Any, provider: str) -> Placement:
    """Ask where each node runs; older versions do not tell, and then nothing is said."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return Placement()
    return placement_of(nodes_of_assignment(session.get_provider_graph_assignment_info()), provider)


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
    found.add_session_config_entry(_RECORD_PLACEMENT, "1")
    for key, value in sorted(options.config.items()):
        found.add_session_config_entry(key, value)
    return found
