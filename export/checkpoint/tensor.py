"""A tensor of a checkpoint that is never whole in memory: read from disk a few rows at a time, or written in pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from vita_edge.engines.errors import BadCheckpoint

__all__ = ["FLOATS", "STORED_AS", "Fetch", "LazyTensor", "StreamedTensor", "fetch_from_array", "fetch_from_file"]

Fetch = Callable[[int, int], NDArray[np.uint8]]
"""``fetch(start, stop)``: those bytes of a storage, uint8 [stop - start]; valid as long as the array is held."""

STORED_AS: dict[str, np.dtype[Any]] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),  # numpy has no such type: the bits
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
}
FLOATS = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class LazyTensor:
    """Name, shape, dtype name (a key of ``STORED_AS``) and source file of a tensor; values only on request.

    ``strides`` and ``offset`` count values, not bytes, within the storage that ``fetch`` reads from.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    fetch: Fetch = field(repr=False)
    strides: tuple[int, ...] = ()
    offset: int = 0

    def __post_init__(self) -> None:
        if not self.strides:
            object.__setattr__(self, "strides", row_major(self.shape))

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values as stored, without gaps."""
        return self.size * STORED_AS[self.dtype].itemsize

    @property
    def end(self) -> int:
        """Values of the storage up to and including the last one that is used."""
        if not self.size:
            return 0
        return self.offset + 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides))

    def read(self) -> NDArray[np.float32]:
        """All values: float32 of ``shape``, a copy that is yours."""
        return _as_float32(self._view(self.shape, self.offset), self.dtype)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 [stop - start, *shape[1:]] of the leading axis; the rest of the file is not touched."""
        return _as_float32(self._rows(start, stop), self.dtype)

    def raw_rows(self, start: int, stop: int) -> NDArray[Any]:
        """The same rows as they are stored, bfloat16 as uint16; a copy that is yours."""
        return np.array(self._rows(start, stop), order="C")

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        if not self.shape or not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"{self.name}: rows {start}..{stop} of {self.shape}")
        return self._view((stop - start, *self.shape[1:]), self.offset + start * self.strides[0])

    def _view(self, shape: tuple[int, ...], first: int) -> NDArray[Any]:
        stored = STORED_AS[self.dtype]
        if not math.prod(shape):
            return np.empty(shape, stored)
        last = first + sum((n - 1) * stride for n, stride in zip(shape, self.strides))
        try:
            values = self.fetch(first * stored.itemsize, (last + 1) * stored.itemsize).view(stored)
        except (OSError, ValueError) as error:
            raise BadCheckpoint(
                f"Cannot read {self.name} from {self.file}.",
                why=f"{error}. The file was whole when it was opened.",
                fix="Keep the checkpoint in place until the export has ended, and try again.",
            ) from error
        return as_strided(values, shape, [stride * stored.itemsize for stride in self.strides], writeable=False)


@dataclass(frozen=True)
class StreamedTensor:
    """A tensor on its way to disk: ``pieces`` hands out its values in row-major order, as they are stored."""

    shape: tuple[int, ...]
    dtype: str
    pieces: Callable[[], Iterator[NDArray[Any]]] = field(repr=False)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * STORED_AS[self.dtype].itemsize


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in values, of an array without gaps."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def fetch_from_file(file: Path, start: int) -> Fetch:
    """A storage that begins at byte ``start`` of ``file``.

    Mapped anew for every request and let go with the array, so that pages once read do not stay with the process.
    """

    def fetch(first: int, stop: int) -> NDArray[np.uint8]:
        return np.memmap(file, np.uint8, "r", offset=start + first, shape=(stop - first,)).view(np.ndarray)

    return fetch


def fetch_from_array(values: NDArray[Any]) -> Fetch:
    """A storage in memory, for the few values that are computed from text files."""
    stored = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return lambda first, stop: stored[first:stop]


def _as_float32(stored: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return np.array(stored, np.float32, order="C")
