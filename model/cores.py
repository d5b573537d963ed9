"""The number of cores that this process may use.

ONNX Runtime sizes its thread pool from the host, not from the container.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = CGROUP) -> int:
    """Return the lower of the CPU affinity and the cgroup CPU quota, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(cgroup)
    return max(1, min(affinity or 1, math.floor(quota) if quota else affinity or 1))


def _quota(cgroup: Path) -> float | None:
    """Return the cores granted by cgroup v2 (`cpu.max`) or v1 (`cpu.cfs_*`); None for no limit."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if limit in ("max", "-1") or int(period) <= 0:
        return None
    return int(limit) / int(period)


def available_memory(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes this process may use: the machine's memory or the cgroup's limit; None
    where neither is known."""
    known = []
    for path in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        try:
            known.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    try:
        kilobytes = next(line for line in meminfo.read_text().splitlines() if "MemTotal" in line)
        known.append(int(kilobytes.split()[1]) * 1024)
    except (OSError, ValueError, StopIteration):
        pass
    return min(known, default=None)
