"""A device file as a user writes it."""

from __future__ import annotations

from typing import Any

from vita_edge.estimate.device_file import SOURCED

__all__ = ["own"]


def own(**changes: Any) -> dict[str, Any]:
    device = {
        "name": "A board of mine",
        "backend": "tensorrt",
        "sm": "8.7",
        "memory_gib": 4,
        "shared_memory": True,
        "bandwidth_gb_s": 34,
        "fp32_tflops": 1,
        "fp16_tflops": 5,
        "int8_tops": 10,
        "system_mib": 1024,
        "runtime_mib": 700,
        "launch_us": 10,
        "platforms": ["jetpack-6"],
        "sources": dict.fromkeys(SOURCED, "its data sheet"),
    }
    return {"format": 1, "devices": {"mine": {**device, **changes}}}
