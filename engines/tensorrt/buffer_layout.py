"""Where tensors lie in a block of memory: numbers alone, no device is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vita_edge.engines.tensors import TensorSpec

__all__ = ["ALIGNMENT", "BlockPart", "cache_shape", "lay_out"]

ALIGNMENT = 256
"""Bytes: what TensorRT wants of its activations, and what copies like."""


@dataclass(frozen=True)
class BlockPart:
    """A tensor's place in a block."""

    offset: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: str


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> tuple[dict[str, BlockPart], int]:
    """Places of ``tensors`` (name, dtype, shape) in one block, and its bytes: one copy moves all of them."""
    parts: dict[str, BlockPart] = {}
    at = 0
    for name, dtype, shape in tensors:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        parts[name] = BlockPart(at, nbytes, shape, dtype)
        at += _aligned(max(nbytes, 1))
    return parts, at


def cache_shape(spec: TensorSpec, capacity_tokens: int) -> tuple[int, ...]:
    """Shape of a cache input with room for that many positions."""
    return tuple(axis if isinstance(axis, int) else capacity_tokens for axis in spec.axes)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
