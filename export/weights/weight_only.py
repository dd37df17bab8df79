"""Matrices for TensorRT: plain, or narrow with a DequantizeLinear in front of the product, which it fuses into it.

Weights are symmetric around zero, as TensorRT takes them. Products bear the name of the layer (``layers.3/attn.qkv``),
so that calibration finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .blob import Blob
from .formats import in_half, in_parallel
from .graph_writer import GraphWriter
from .weight import Floats, Weight

__all__ = ["Int4Blocks", "Int8Columns", "Int8Rescaled", "Plain"]

Halves = NDArray[np.float16]

STEPS = (7.0, 7.5, 8.0)
"""The largest magnitude of a block becomes one of these, before rounding to −8 … 7: what errs least is taken, block by
block. Past 7, a positive extreme is clipped and all others are finer."""
NARROWEST_BLOCK = 16
SMALLEST = float(np.finfo(np.float16).tiny)
"""Least scale: below it half precision loses digits."""


@dataclass(frozen=True)
class Plain:
    """In the type of the graph, [out, in] as in the checkpoint, turned in front of the product.

    A plan for single tokens and prompts then holds the matrix once. Of one that lies the other way round, TensorRT-RTX
    makes a turned copy for single tokens.
    """

    precision: str = "fp16"

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        turned = g.op("Transpose", g.weight(f"{name}.weight", weight), perm=[1, 0], called=f"{name}.turned")
        return str(g.op("MatMul", x, turned, called=name))


@dataclass(frozen=True)
class Int8Columns:
    """int8 with a scale for every output: for many rows, and as calibration completes it."""

    precision: str = "int8"

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        rows, width = weight.shape
        columns = _Int8(weight, f"{name}.weight")
        values = g.blob(Blob(f"{name}.weight", "int8", (width, rows), columns.values, weight.size))
        scales = g.blob(Blob(f"{name}.scale", "float16", (rows,), columns.scales))
        wide = g.op("DequantizeLinear", values, scales, axis=1, called=f"{name}.wide")
        return str(g.op("MatMul", x, wide, called=name))


@dataclass(frozen=True)
class Int8Rescaled:
    """int8 with one scale for the product, and what every output lacks behind it: for single rows.

    With a single row TensorRT fuses a DequantizeLinear of one scale, while for one of many it writes the whole matrix
    out in half precision before every product.
    """

    precision: str = "int8"

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        rows, width = weight.shape
        columns = _Int8(weight, f"{name}.weight")
        values = g.blob(Blob(f"{name}.weight", "int8", (width, rows), columns.values, weight.size))
        shared = g.blob(Blob(f"{name}.scale", "float16", (), columns.shared))
        rest = g.blob(Blob(f"{name}.rest", "float16", (rows,), columns.rest))
        wide = g.op("DequantizeLinear", values, shared, called=f"{name}.wide")
        return str(g.op("Mul", g.op("MatMul", x, wide, called=name), rest))


@dataclass(frozen=True)
class Int4Blocks:
    """4 bits, in blocks along the input that share a scale. A matrix that is no whole number of blocks of 16 wide stays
    in half precision."""

    block: int = 128
    precision: str = "int4"

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        rows, width = weight.shape
        block = self.block
        while width % block:
            block //= 2
        if block < NARROWEST_BLOCK:
            return Plain().multiply(g, x, weight, name)
        columns = _Int4(weight, block, f"{name}.weight")
        values = g.blob(Blob(f"{name}.weight", "int4", (width, rows), columns.values, weight.size))
        scales = g.blob(Blob(f"{name}.scale", "float16", (width // block, rows), columns.scales))
        wide = g.op("DequantizeLinear", values, scales, axis=0, block_size=block, called=f"{name}.wide")
        return str(g.op("MatMul", x, wide, called=name))


@dataclass
class _Int8:
    """Rows [out, in] of the checkpoint become columns of int8 [in, out]; scales are known once the values are."""

    weight: Weight
    name: str
    _scales: list[Halves] = field(default_factory=list)

    def values(self) -> Iterator[NDArray[np.int8]]:
        rows, width = self.weight.shape
        turned = np.empty((width, rows), np.int8)
        self._scales, start = [], 0
        for quantised, scale in in_parallel(lambda piece: _int8_rows(piece, self.name), self.weight.pieces()):
            turned[:, start : start + len(quantised)] = quantised.T
            start += len(quantised)
            self._scales.append(scale)
        yield turned

    def scales(self) -> Iterator[Halves]:
        yield from self._scales
        self._scales = []

    def shared(self) -> Iterator[Halves]:
        yield np.array(self._power_of_two(), np.float16)

    def rest(self) -> Iterator[Halves]:
        """:meth:`scales` without what is :meth:`shared`."""
        shared = self._power_of_two()
        for scale in self.scales():
            yield (scale.astype(np.float32) / shared).astype(np.float16)

    def _power_of_two(self) -> np.float32:
        """About the least scale, so that no product is larger before it is rescaled than after; but no less than a
        64th of the largest, so that none of weight vanishes. By a power of two, halves are divided exactly."""
        scales = np.concatenate(self._scales).astype(np.float32)
        minimum = max(scales.min(), scales.max() / 64)
        return np.float32(2.0) ** np.floor(np.log2(minimum, dtype=np.float32))


@dataclass
class _Int4:
    """The same in blocks: values int4 [in, out], two a byte; scales [in / block, out]."""

    weight: Weight
    block: int
    name: str
    _scales: list[Halves] = field(default_factory=list)

    def values(self) -> Iterator[NDArray[np.uint8]]:
        rows, width = self.weight.shape
        turned = np.empty((width, rows), np.int8)
        self._scales, start = [], 0
        work = in_parallel(lambda piece: _int4_rows(piece, self.block, self.name), self.weight.pieces())
        for quantised, scale in work:
            turned[:, start : start + len(quantised)] = quantised.T
            start += len(quantised)
            self._scales.append(scale)
        for start in range(0, width, 256):  # an even number of rows, so that no byte is shared by two pieces
            yield _nibbles(turned[start : start + 256].reshape(-1))

    def scales(self) -> Iterator[Halves]:
        yield np.concatenate(self._scales).T
        self._scales = []


def _int8_rows(rows: Floats, name: str) -> tuple[NDArray[np.int8], Halves]:
    scale = in_half(np.maximum(np.abs(rows).max(axis=1) / np.float32(127), np.float32(SMALLEST)), name)
    steps = np.rint(rows / scale.astype(np.float32)[:, None])
    return np.clip(steps, -127, 127).astype(np.int8), scale


def _int4_rows(rows: Floats, block: int, name: str) -> tuple[NDArray[np.int8], Halves]:
    """int8 [rows, in] between −8 and 7, and scales [rows, blocks]."""
    blocks = rows.reshape(len(rows), -1, block)
    largest = np.abs(blocks).max(axis=2)
    scales = np.empty(largest.shape, np.float16)
    smallest = np.full_like(largest, np.inf)
    for steps in STEPS:
        scale = in_half(np.maximum(largest / np.float32(steps), np.float32(SMALLEST)), name)
        off = _rounded(blocks, scale) * scale.astype(np.float32)[:, :, None]
        off -= blocks
        error = np.einsum("rbi,rbi->rb", off, off)
        better = error < smallest
        np.copyto(scales, scale, where=better)
        np.copyto(smallest, error, where=better)
    return _rounded(blocks, scales).astype(np.int8).reshape(rows.shape), scales


def _rounded(blocks: Floats, scale: Halves) -> Floats:
    steps = blocks * (np.float32(1) / scale.astype(np.float32))[:, :, None]
    np.rint(steps, out=steps)
    np.clip(steps, -8, 7, out=steps)
    return steps


def _nibbles(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two values a byte, the first low; a lone last one by itself."""
    if values.size % 2:
        values = np.append(values, np.int8(0))
    pairs = values.view(np.uint8) & np.uint8(15)
    return pairs[0::2] | (pairs[1::2] << np.uint8(4))
