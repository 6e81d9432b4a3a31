"""How many CPUs this process may really use: its affinity and the quota of its control group.

Rules of this file: `os.cpu_count()` counts the machine's CPUs and is wrong in a container; the root of the file system
is an argument, so that tests need no container.
"""

import math
import os
from pathlib import Path, PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs, at least 1: the smaller of affinity and quota (rounded up)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(root)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """Return the CPUs that the control group grants, or None where it sets no quota.

    Looks at version 2 (`cpu.max`, in this process's group and every group above it: the smallest rules) and at
    version 1 (`cpu.cfs_quota_us`). Source: the kernel's cgroup-v2 documentation, "CPU Interface Files".
    """
    grants = [_v2_grant(_read(folder / "cpu.max")) for folder in _v2_folders(root)]
    v1 = root / "sys/fs/cgroup/cpu"
    grants.append(_v1_grant(_read(v1 / "cpu.cfs_quota_us"), _read(v1 / "cpu.cfs_period_us")))
    return min((grant for grant in grants if grant is not None), default=None)


def _v2_folders(root: Path) -> list[Path]:
    top = root / "sys/fs/cgroup"
    folders = [top]
    for line in _read(root / "proc/self/cgroup").splitlines():
        if line.startswith("0::/"):
            group = PurePosixPath(line.removeprefix("0::/"))
            folders += [top / part for part in (group, *group.parents)]
    return folders


def _v2_grant(text: str) -> float | None:
    quota, _, period = text.strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _v1_grant(quota: str, period: str) -> float | None:
    return _v2_grant(f"{quota.strip()} {period.strip()}")  # no quota is -1, which is no row of digits


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
