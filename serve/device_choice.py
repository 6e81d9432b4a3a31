"""Which device a bundle runs on, and why: CUDA only where it really works.

Rules of this file: an available provider proves nothing (the CUDA wheel falls back to the CPU without a word where
there is no GPU), so `auto` believes a device only after a golden check on it.
"""

from importlib import metadata

from ..bundle.reader import Bundle
from .cpus import usable_cpus
from .errors import DeviceUnavailableError, ServerStartError
from .golden_check import check_golden
from .onnx_runtime import CUDA_PROVIDER, OnnxRuntime, offers_cuda
from .settings import Device

_NO_CUDA_BUILD = "an onnxruntime without CUDA"
_REMEDY = "install the extra gpu instead of cpu on a machine with an NVIDIA driver, or use --device cpu"


def open_runtime(bundle: Bundle, *, device: Device = "auto", threads: int | None = None) -> OnnxRuntime:
    """Open a bundle's graph.

    Args:
        bundle: read with every digest checked.
        device: auto: CUDA where it reproduces the golden cases, else the CPU; cpu; cuda: that or nothing.
        threads: threads inside one run; None: the CPUs this process may use.

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
        return _open_cuda(bundle, count, "asked for")
    return _open_best(bundle, count)


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


def _open_best(bundle: Bundle, threads: int) -> OnnxRuntime:
    if not offers_cuda():
        return _open(bundle, "cpu", threads, f"the CPU, for this is {_NO_CUDA_BUILD}")
    try:
        runtime = _open_cuda(bundle, threads, "CUDA, for it reproduced the golden cases")
    except ServerStartError as err:
        return _open(bundle, "cpu", threads, f"the CPU, for CUDA did not open ({err})")
    result = check_golden(runtime, bundle)
    if result.passed:
        return runtime
    runtime.close()
    return _open(bundle, "cpu", threads, f"the CPU, for CUDA did not reproduce the golden cases ({result.summary()})")


def _open_cuda(bundle: Bundle, threads: int, reason: str) -> OnnxRuntime:
    if not offers_cuda():
        raise DeviceUnavailableError("cuda", _NO_CUDA_BUILD, _REMEDY)
    runtime = _open(bundle, "cuda", threads, reason)
    if runtime.provider != CUDA_PROVIDER:
        found = f"onnxruntime on {runtime.provider}"
        runtime.close()
        raise DeviceUnavailableError("cuda", found, _REMEDY)
    return runtime


def _open(bundle: Bundle, device: str, threads: int, reason: str) -> OnnxRuntime:
    warning = clashing_wheels()
    return OnnxRuntime(
        bundle.model,
        bundle.manifest.graph,
        bundle.manifest.session,
        device=device,
        threads=threads,
        reason=reason,
        notes=() if warning is None else (warning,),
    )
