"""Take outliers among a matrix's columns into the norm in front of it, before the matrix is rounded to 8 or 4 bits.

One channel of a thousand times the others leaves all of them within one step of a row's scale. A norm multiplies each
channel anyway: what a column is divided by, the norm's gain is multiplied by. Factors are powers of two, so that the
product is the same to the bit before it is rounded; columns of usual size are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from .weight import Floats, Weight, computed

__all__ = ["OUTLIER", "balanced"]

OUTLIER = 16.0
"""Times the median of the columns' largest magnitudes: trained matrices stay below, damaged and merged ones do not."""


def balanced(gain: Weight, *matrices: Weight) -> tuple[Weight, list[Weight]]:
    """``gain`` [in] of a norm and the ``matrices`` [out, in] that read what it gives, outliers moved to the gain."""
    factors = _Factors(matrices)

    def scaled() -> Floats:
        return gain.read() * factors.of()

    return computed(gain.shape, scaled), [_divided(matrix, factors) for matrix in matrices]


class _Factors:
    """Powers of two by which columns are divided; all matrices are read once for them, when the first is written."""

    def __init__(self, matrices: Sequence[Weight]) -> None:
        self._matrices = matrices
        self.of = lru_cache(maxsize=1)(self._find)

    def _find(self) -> Floats:
        largest = np.zeros(self._matrices[0].shape[1], np.float32)
        for matrix in self._matrices:
            for piece in matrix.pieces():
                np.maximum(largest, np.abs(piece).max(axis=0), out=largest)
        usual = float(np.median(largest))
        over = largest / np.float32(usual) if usual > 0 else np.ones_like(largest)
        return np.where(over > OUTLIER, np.exp2(np.floor(np.log2(np.maximum(over, 1)))), 1).astype(np.float32)


def _divided(matrix: Weight, factors: _Factors) -> Weight:
    def pieces() -> Iterator[Floats]:
        found = factors.of()
        for piece in matrix.pieces():
            yield piece if (found == 1).all() else piece / found

    return Weight(matrix.shape, pieces)
