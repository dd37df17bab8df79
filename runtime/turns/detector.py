"""What judges whether a turn is complete: one small protocol, behind which several detectors can stand side by side."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE_HZ", "TurnDetector"]

RATE_HZ = 16_000


class TurnDetector(Protocol):
    """Hears the turn so far; one thread uses it at a time."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def probability(self, turn: NDArray[np.float32]) -> float:
        """That the turn is complete.

        Args:
            turn: float32 [n] at 16 kHz, full scale 1.0: from the first voice of the turn until now, with the silence
                that has just begun at its end.
        """
        ...
