"""Which device a bundle runs on, and why: CUDA only where it really works.

Rules of this file: an available provider proves nothing (the CUDA wheel falls back to the CPU without a word where
there is no GPU), so `auto` believes a device only after a golden check on it, and nobody believes CUDA that leaves the
recurrence to the CPU.
"""

from collections.abc import Sequence
from importlib import metadata

from ...bundle.reader import Bundle
from ..settings import Device
from ..start_errors import DeviceUnavailableError, ServerStartError
from .cpus import usable_cpus
from .golden_check import check_golden
from .kernel_runtime import KernelRuntime, with_kernels
from .onnx_runtime import OnnxRuntime
from .onnx_session import offers_cuda
from .placement import CUDA_PROVIDER

OpenRuntime = OnnxRuntime | KernelRuntime
_NO_CUDA_BUILD = "an onnxruntime without CUDA"
_NO_KERNEL = "CUDA has no kernel for them, so every run would wait for the CPU: use --device cpu"
_SHOWN = 3
_REMEDY = "install the extra gpu instead of cpu on a machine with an NVIDIA driver, or use --device cpu"


def open_runtime(
    bundle: Bundle,
    *,
    device: Device = "auto",
    threads: int | None = None,
    tf32: bool = False,
    kernels: bool = True,
) -> OpenRuntime:
    """Open a bundle's graph.

    Args:
        bundle: read with every digest checked.
        device: auto: CUDA where it reproduces the golden cases, else the CPU; cpu; cuda: that or nothing.
        threads: threads inside one run; None: the CPUs this process may use.
        tf32: let CUDA round the factors of float32 products to TF32.
        kernels: let the project's own kernels run on CUDA what they can, unless TF32 is asked for.

    Returns:
        The runtime; `facts.reason` says why this device. The caller closes it, and runs the golden check before
        trusting it (`auto` has run it on CUDA, not on the CPU).

    Raises:
        DeviceUnavailableError: cuda was asked for and does not work here.
        ServerStartError: onnxruntime cannot load the model, or the model is not what the manifest says.
    """
    count = threads or usable_cpus()
    if device == "cpu":
        return _open(bundle, "cpu", count, "asked for")
    if device == "cuda":
        return _open_cuda(bundle, count, "asked for", tf32=tf32, kernels=kernels)
    return _open_best(bundle, count, tf32=tf32, kernels=kernels)


def clashing_wheels() -> str | None:
    """Return a warning where both onnxruntime wheels are installed, else None.

    Both install the same import package, the last one overwrites the other, and no installer objects.
    """
    found = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(found) < 2:  # noqa: PLR2004 - both
        return None
    return (
        f"{' and '.join(found)} are both installed and overwrite each other; which one works is chance. "
        "Uninstall both, then install one"
    )


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _open_best(bundle: Bundle, threads: int, *, tf32: bool, kernels: bool) -> OpenRuntime:
    if not offers_cuda():
        return _open(bundle, "cpu", threads, "this onnxruntime has no CUDA")
    try:
        runtime = _open_cuda(bundle, threads, "CUDA reproduced the golden cases", tf32=tf32, kernels=kernels)
    except ServerStartError as err:
        return _open(bundle, "cpu", threads, f"CUDA did not open ({err})")
    result = check_golden(runtime, bundle)
    if result.passed:
        return runtime
    runtime.close()
    return _open(bundle, "cpu", threads, f"CUDA did not reproduce the golden cases ({result.summary()})")


def _open_cuda(bundle: Bundle, threads: int, reason: str, *, tf32: bool, kernels: bool) -> OpenRuntime:
    if not offers_cuda():
        raise DeviceUnavailableError("cuda", _NO_CUDA_BUILD, _REMEDY)
    runtime = _open(bundle, "cuda", threads, reason, tf32=tf32)
    if runtime.provider != CUDA_PROVIDER:
        found = f"onnxruntime on {runtime.provider}"
        runtime.close()
        raise DeviceUnavailableError("cuda", found, _REMEDY)
    misplaced = runtime.facts.placement.misplaced
    if misplaced:
        runtime.close()
        raise DeviceUnavailableError("cuda", f"{_some(misplaced)} left to another provider", _NO_KERNEL)
    return runtime if tf32 or not kernels else with_kernels(runtime, bundle)


def _some(nodes: Sequence[str]) -> str:
    """Name the first few nodes, and count the others."""
    shown = ", ".join(nodes[:_SHOWN])
    return shown if len(nodes) <= _SHOWN else f"{shown} and {len(nodes) - _SHOWN} more nodes"


def _open(bundle: Bundle, device: str, threads: int, reason: str, *, tf32: bool = False) -> OnnxRuntime:
    warning = clashing_wheels()
    name, model = bundle.graph_for(device)
    return OnnxRuntime(
        model,
        bundle.manifest.graph,
        bundle.manifest.session,
        device=device,
        threads=threads,
        graph=name,
        precision=bundle.manifest.precision,
        tf32=tf32,
        reason=reason,
        notes=() if warning is None else (warning,),
    )
