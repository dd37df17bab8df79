"""When samples were captured or will sound, without the jitter of the callbacks that tell it."""

from __future__ import annotations

__all__ = ["SampleClock"]

JUMP_S = 0.05
PULL = 0.02


class SampleClock:
    """Buffers follow each other without gaps, so their times do: it follows what is measured slowly, and jumps with it.

    A measured time is late by as long as the callback waited for the interpreter; the samples are not.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._next_s: float | None = None

    def step(self, count: int, measured_s: float) -> float:
        """The time of the first of ``count`` samples that was measured at ``measured_s``."""
        first_s = self._next_s
        if first_s is None or abs(measured_s - first_s) > JUMP_S:
            first_s = measured_s
        else:
            first_s += PULL * (measured_s - first_s)
        self._next_s = first_s + count / self._rate_hz
        return first_s
