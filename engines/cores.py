"""The processor cores that this process may use, and so the threads that are worth having."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["thread_count", "usable_cores"]

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def thread_count(threads: int = 0) -> int:
    """Threads for a computation: as many as asked, but never more than there are usable cores; 0 takes one per core.

    More are never faster, and a thousand stop the machine.
    """
    return min(threads, usable_cores()) if threads > 0 else usable_cores()


def usable_cores() -> int:
    """Cores that the process is bound to, or fewer where its container has a quota of processor time."""
    cores = len(os.sched_getaffinity(0))
    quota = min(_quotas(), default=math.inf)
    return max(min(cores, math.ceil(quota)), 1) if quota < cores else cores


def _quotas() -> list[float]:
    """Cores' worth of time that each control group above the process allows."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += [_share(folder / "cpu.max") for folder in _upwards(CGROUPS, path)]
        elif "cpu" in controllers.split(","):
            found += [
                _share(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
                for root in (CGROUPS / "cpu", CGROUPS / controllers)
                for folder in _upwards(root, path)
            ]
    return found


def _upwards(root: Path, path: str) -> list[Path]:
    """A group's folder and those above it. In a container the path may be the host's: then only the root is there."""
    names = [name for name in path.split("/") if name not in ("", "..")]
    return [root.joinpath(*names[:depth]) for depth in range(len(names), -1, -1)]


def _share(*files: Path) -> float:
    """Quota over period, both in microseconds; infinite where there is no limit."""
    try:
        quota, period = (float(word) for word in " ".join(file.read_text() for file in files).split())
    except (OSError, ValueError):  # no such group; "max"
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
