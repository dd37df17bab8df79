"""A camera that always sees the same picture: what a recorded question is about."""

from __future__ import annotations

from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ..encoders.camera import Frame

__all__ = ["StillCamera"]

FRAMES_PER_S = 8.0


class StillCamera:
    """Gives uint8 [H, W, 3], RGB, as a new frame eight times a second."""

    lost = False

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels.copy()
        self._pixels.flags.writeable = False
        self._begin_s = monotonic()

    def newest(self) -> Frame:
        now_s = monotonic()
        return Frame(self._pixels, now_s, int((now_s - self._begin_s) * FRAMES_PER_S))
