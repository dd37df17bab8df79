"""A weight on its way from the checkpoint into a graph: shape known now, values produced later, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..checkpoint.tensor import LazyTensor

__all__ = [
    "Floats",
    "Weight",
    "as_is",
    "computed",
    "first_rows",
    "head_padded",
    "head_padded_columns",
    "joined_rows",
    "padded_head_dim",
    "transposed",
]

Floats = NDArray[np.float32]
PIECE_VALUES = 1 << 20
"""Values handled at once: 4 MiB in float32, which stays in the cache of the core that works on it."""


@dataclass(frozen=True)
class Weight:
    """float32 values of ``shape`` in row-major order, produced in pieces that follow one another."""

    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[Floats]]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def read(self) -> Floats:
        """The whole weight at once."""
        whole = np.empty(self.size, np.float32)
        filled = 0
        for piece in self.pieces():
            whole[filled : filled + piece.size] = piece.reshape(-1)
            filled += piece.size
        return whole.reshape(self.shape)


def as_is(tensor: LazyTensor) -> Weight:
    """The tensor as the checkpoint holds it."""

    def pieces() -> Iterator[Floats]:
        if not tensor.shape:
            yield tensor.read()
            return
        for start, stop in _row_blocks(tensor.shape):
            yield tensor.rows(start, stop)

    return Weight(tensor.shape, pieces)


def computed(shape: Sequence[int], make: Callable[[], NDArray[np.floating]]) -> Weight:
    """A weight that is made in one go by ``make``: folded norms, tables."""

    def pieces() -> Iterator[Floats]:
        array = np.ascontiguousarray(make(), np.float32)
        if array.shape != tuple(shape):
            raise ValueError(f"made {array.shape}, promised {tuple(shape)}")
        yield array

    return Weight(tuple(shape), pieces)


def joined_rows(*weights: Weight) -> Weight:
    """Weights of equal width, one below the other."""

    def pieces() -> Iterator[Floats]:
        for weight in weights:
            yield from weight.pieces()

    rows = sum(weight.shape[0] for weight in weights)
    return Weight((rows, *weights[0].shape[1:]), pieces)


def transposed(weight: Weight) -> Weight:
    """[out, in] → [in, out], as MatMul wants it."""
    rows, columns = weight.shape

    def pieces() -> Iterator[Floats]:
        whole = weight.read()
        step = max(PIECE_VALUES // rows, 1)
        for start in range(0, columns, step):
            yield np.ascontiguousarray(whole[:, start : start + step].T)

    return Weight((columns, rows), pieces)


def padded_head_dim(head_dim: int) -> int:
    """The attention operator takes rotary heads of a multiple of 16; narrower ones are padded with zeros."""
    return -(-head_dim // 16) * 16


def head_padded(weight: Weight, head_dim: int, *, rotary: bool) -> Weight:
    """Pad the leading axis [heads · head_dim, ...] of a projection to ``padded_head_dim`` a head, with zero rows.

    Zero rows of queries and keys add nothing to a score, zero rows of values give zero columns. The two halves that
    a rotation pairs are padded each on its own, so that they stay paired.
    """
    padded = padded_head_dim(head_dim)
    if padded == head_dim:
        return weight
    heads = weight.shape[0] // head_dim
    parts = 2 if rotary else 1

    def make() -> Floats:
        split = weight.read().reshape(heads, parts, head_dim // parts, *weight.shape[1:])
        wide = np.zeros((heads, parts, padded // parts, *weight.shape[1:]), np.float32)
        wide[:, :, : head_dim // parts] = split
        return wide.reshape(heads * padded, *weight.shape[1:])

    return computed((heads * padded, *weight.shape[1:]), make)


def head_padded_columns(weight: Weight, head_dim: int) -> Weight:
    """The output projection [out, heads · head_dim] that takes heads padded like :func:`head_padded` values."""
    padded = padded_head_dim(head_dim)
    if padded == head_dim:
        return weight
    rows, heads = weight.shape[0], weight.shape[1] // head_dim

    def make() -> Floats:
        wide = np.zeros((rows, heads, padded), np.float32)
        wide[:, :, :head_dim] = weight.read().reshape(rows, heads, head_dim)
        return wide.reshape(rows, heads * padded)

    return computed((rows, heads * padded), make)


def first_rows(tensor: LazyTensor, rows: int) -> Weight:
    """The first ``rows`` rows of a table."""

    def pieces() -> Iterator[Floats]:
        for start, stop in _row_blocks((rows, *tensor.shape[1:])):
            yield tensor.rows(start, stop)

    return Weight((rows, *tensor.shape[1:]), pieces)


def _row_blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    width = int(np.prod(shape[1:], dtype=np.int64)) or 1
    block = max(PIECE_VALUES // width, 1)
    for start in range(0, shape[0], block):
        yield start, min(start + block, shape[0])
