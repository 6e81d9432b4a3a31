"""What the device is called and which driver runs it, for records that people compare later.

Rules of this file: it asks and never fails: what cannot be found is None. The parsers are pure.
"""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=index,uuid,name,driver_version", "--format=csv,noheader")
_PATIENCE_S = 10.0
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceFacts:
    """The device's name and its driver's version, None where unknown or where there is no driver."""

    name: str | None
    driver: str | None


def device_facts(device: str, environ: Mapping[str, str]) -> DeviceFacts:
    """Return what this machine says about the device.

    Args:
        device: "cpu" or "cuda"; of several GPUs the first that CUDA_VISIBLE_DEVICES leaves, for that one is used.
        environ: usually os.environ.
    """
    if device == "cuda":
        return gpu_from_listing(_run(_NVIDIA_SMI), environ.get("CUDA_VISIBLE_DEVICES", ""))
    return DeviceFacts(name=cpu_from_info(_read(_CPU_INFO)) or platform.processor() or platform.machine(), driver=None)


def gpu_from_listing(text: str, visible: str) -> DeviceFacts:
    """Read nvidia-smi's table: index, uuid, name, driver.

    Args:
        text: one GPU a line.
        visible: CUDA_VISIBLE_DEVICES: indices or beginnings of uuids, joined by commas; empty means all.
    """
    rows = [[field.strip() for field in line.split(",", 3)] for line in text.splitlines() if line.count(",") >= 3]  # noqa: PLR2004
    first = visible.partition(",")[0].strip()
    for index, uuid, name, driver in rows:
        if not first or first == index or (not first.isdigit() and uuid.startswith(first)):
            return DeviceFacts(name=name, driver=driver)
    return DeviceFacts(name=None, driver=None)


def cpu_from_info(text: str) -> str | None:
    """Read the first processor's name from /proc/cpuinfo."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return None


def _run(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
