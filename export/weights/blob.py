"""Values on their way into a weight file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blob"]


@dataclass(frozen=True)
class Blob:
    """Values on their way into a weight file: ``pieces`` follow one another in row-major order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[NDArray[Any]]]
    parameters: int = 0
    """Learned numbers that it stands for; scales and zero points are none."""

    @property
    def stored(self) -> str:
        """dtype of the pieces: two values of 4 bits share a byte, the first low."""
        return "uint8" if self.dtype == "int4" else self.dtype

    @property
    def nbytes(self) -> int:
        values = int(np.prod(self.shape, dtype=np.int64))
        return -(-values // 2) if self.dtype == "int4" else values * np.dtype(self.dtype).itemsize
