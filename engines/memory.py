"""What the machine, or the container, has left, and what this process has taken."""

from __future__ import annotations

from pathlib import Path

__all__ = ["available_memory", "peak_memory"]

CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes that can be taken without swapping, or None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    free = next((int(words[1]) * 1024 for words in found if words[:1] == ["MemAvailable:"]), None)
    left = _left_to_container()
    return min(free, left) if free is not None and left is not None else free


def peak_memory() -> int | None:
    """Bytes that this process had resident at its largest, or None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(words[1]) * 1024 for words in found if words[:1] == ["VmHWM:"]), None)


def _left_to_container() -> int | None:
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return max(int(limit) - int(used), 0)
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return None
