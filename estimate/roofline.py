"""How long a call of a graph takes at best: by its bytes, by its arithmetic, or by the number of its operators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from .device_file import Device, Share
from .weight_bits import WeightBits

__all__ = ["Bound", "Call", "Case", "Timed", "time_of"]

Bound: TypeAlias = Literal["memory", "arithmetic", "operators"]
Case: TypeAlias = Literal["expected", "slow", "fast"]
"""Which of a device's stated efficiencies are taken."""


@dataclass(frozen=True)
class Call:
    """What one call of a graph does."""

    bytes_read: float = 0.0
    macs: float = 0.0
    """Of products in the arithmetic of the precision."""
    convolution_macs: float = 0.0
    launches: int = 0

    def __add__(self, other: Call) -> Call:
        return Call(
            self.bytes_read + other.bytes_read,
            self.macs + other.macs,
            self.convolution_macs + other.convolution_macs,
            self.launches + other.launches,
        )

    def __mul__(self, factor: float) -> Call:
        """More units in the same call: the weights are read once, the operators are the same."""
        return replace(self, macs=self.macs * factor, convolution_macs=self.convolution_macs * factor)


@dataclass(frozen=True)
class Timed:
    """A time, and what it is bound by."""

    ms: float
    bound: Bound

    def repeated(self, times: float) -> Timed:
        return Timed(self.ms * times, self.bound)


def time_of(call: Call, device: Device, form: WeightBits, case: Case = "expected") -> Timed:
    """The longest of three times: of its bytes, at the bandwidth that is reached; of its operations, at the peaks that
    are reached, products and convolutions one after the other; and of its operators, launched one after the other.
    """
    share = {name: _share(each, case) for name, each in device.efficiency.items()}
    memory = call.bytes_read / (device.bandwidth_gb_s * 1e9 * share["decode"])
    peak = {"fp32": device.fp32_tflops, "fp16": device.fp16_tflops, "int8": device.int8_tops}
    convolving = "fp32" if device.backend == "onnxruntime-cpu" or form.arithmetic == "fp32" else "fp16"
    arithmetic = _seconds(call.macs, peak[form.arithmetic] * share["prefill"])
    arithmetic += _seconds(call.convolution_macs, peak[convolving] * share["convolution"])
    launches = call.launches * device.launch_us * 1e-6
    times: dict[Bound, float] = {"memory": memory, "arithmetic": arithmetic, "operators": launches}
    bound = max(times, key=lambda name: times[name])
    return Timed(1000 * times[bound], bound)


def _seconds(macs: float, tera_per_s: float) -> float:
    return 2 * macs / (tera_per_s * 1e12) if macs else 0.0


def _share(share: Share, case: Case) -> float:
    return {"expected": share.value, "slow": share.low, "fast": share.high}[case]
