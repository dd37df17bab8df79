"""What a measurement was made on: the machine, how fast it is allowed to run, and the versions that matter."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .cores import usable_cores

__all__ = ["machine_facts"]

PACKAGES = (
    "vita-edge",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-python",
    "numpy",
    "tokenizers",
    "kaldi-native-fbank",
)
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
CLOCK = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq")
BOARD = Path("/proc/device-tree/model")
POWER_MODE = Path("/var/lib/nvpmodel/status")


def machine_facts() -> dict[str, object]:
    """Name → value, for people and for comparing two measurements; None where the system does not tell."""
    khz = _first_line(CLOCK)
    return {
        "cpu": _cpu(),
        "board": _first_line(BOARD),
        "cores": usable_cores(),
        "clock_mhz": int(khz) // 1000 if khz and khz.isdigit() else None,
        "governor": _first_line(GOVERNOR),
        "power_mode": _first_line(POWER_MODE),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    named = (line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "hardware")))
    return next(named, None)


def _versions() -> Mapping[str, str | None]:
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().strip("\0\n ").splitlines()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return None
