"""How long a build will take and how much memory and disk: from sizes, and from what was seen.

The constants were measured with TensorRT-RTX 1.7 for sm86 on two x86-64 cores. Full TensorRT times kernels and takes
several times as long: the first engines that are finished, or earlier ones in the cache, set the pace.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BuildPace", "Size", "building_bytes"]

START_S, GRAPH_S_PER_BYTE, WEIGHTS_S_PER_BYTE = 0.6, 60e-6, 18e-9
MEMORY_BASE_BYTES, MEMORY_PER_WEIGHT = 600 << 20, 2.2
PLAN_BASE_BYTES = 24 << 20


def building_bytes(weights_bytes: int) -> int:
    """Of a building process at its largest, without the mapped file of weights, which the system can take back.

    2.0 to 2.2 times the weights were seen of a language model of 7 B with two profiles, at fp16, int8 and int4.
    """
    return MEMORY_BASE_BYTES + int(MEMORY_PER_WEIGHT * weights_bytes)


@dataclass(frozen=True)
class Size:
    """What determines the cost of a build."""

    graph_bytes: int
    weights_bytes: int
    profiles: int
    stripped: bool = False
    """The engine is written without weights."""

    @property
    def seconds(self) -> float:
        once = START_S + GRAPH_S_PER_BYTE * self.graph_bytes + WEIGHTS_S_PER_BYTE * self.weights_bytes
        return max(self.profiles, 1) * once

    @property
    def memory_bytes(self) -> int:
        return building_bytes(self.weights_bytes)

    @property
    def engine_bytes(self) -> int:
        """All profiles share one set of weights."""
        return PLAN_BASE_BYTES + (0 if self.stripped else self.weights_bytes)


class BuildPace:
    """Corrects estimated seconds by those that were seen."""

    def __init__(self) -> None:
        self._estimated = self._seen = 0.0

    def saw(self, estimated_s: float, seconds: float) -> None:
        self._estimated += estimated_s
        self._seen += seconds

    def seconds(self, estimated_s: float) -> float:
        return estimated_s * (self._seen / self._estimated if self._estimated else 1.0)

    @staticmethod
    def left(expected_s: float, elapsed_s: float, fraction: float) -> float:
        """Seconds left of a build: what was expected, less what is over; when that is used up, what the steps that are
        done let expect, and a tenth of the time that it has taken at least; never less than a second."""
        if elapsed_s < 0.9 * expected_s:
            return max(expected_s - elapsed_s, 1.0)
        by_steps = elapsed_s * (1 - fraction) / fraction if fraction > 0.05 else 0.0
        return max(0.1 * elapsed_s, min(by_steps, elapsed_s), 1.0)
