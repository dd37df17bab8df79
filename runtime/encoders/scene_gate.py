"""Whether a camera frame shows what the last one showed: then its vision tokens need not be computed again.

An approximation: what changes by less than the threshold is not seen. Off unless it is asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SceneGate"]

CELLS = 32
"""The frame is compared in so many cells a side, each the mean of its pixels."""
Cells = NDArray[np.float32]


class SceneGate:
    """Remembers the last frame that was encoded; one thread uses it.

    Args:
        threshold: largest change of any cell, 0 to 255, up to which the scene is the same; 0 never is.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._last: Cells | None = None

    def same(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether uint8 [H, W, 3] shows the scene of the last frame that was :meth:`encoded`."""
        if self._threshold <= 0 or self._last is None:
            return False
        cells = _cells(pixels)
        return cells.shape == self._last.shape and float(np.abs(cells - self._last).max()) < self._threshold

    def encoded(self, pixels: NDArray[np.uint8]) -> None:
        """These were encoded; later frames are compared with them, not with each other, so that nothing creeps in."""
        self._last = _cells(pixels) if self._threshold > 0 else None


def _cells(pixels: NDArray[np.uint8]) -> Cells:
    """float32 [rows, columns, 3]: means of cells, about CELLS a side."""
    height, width = (max(side // CELLS, 1) for side in pixels.shape[:2])
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    cut = pixels[: rows * height, : columns * width].reshape(rows, height, columns, width, 3)
    return np.asarray(cut.mean((1, 3), dtype=np.float32))
