"""How the matrix of a linear layer is kept and multiplied: in float32, in int8, or in blocks of 4 or 8 bits.

Formats are made for ONNX Runtime's CPU kernels. All but float32 read the checkpoint a few rows at a time, so
that a matrix of any size needs little memory (where its transpose is stored, one int8 copy, or one block at float16).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadCheckpoint

from .blob import Blob
from .graph_writer import GraphWriter
from .weight import Floats, Weight, transposed

__all__ = [
    "Blocks",
    "Float16",
    "Float32",
    "Int8Rows",
    "LinearFormat",
    "float_blob",
    "half_blob",
    "half_columns",
    "in_half",
    "in_parallel",
]

TINY = 1e-20
"""Keeps a row of zeros from dividing by zero."""
HALF_BLOCK_BYTES = 64 << 20
"""Half-precision values that are turned at once."""
LARGEST_HALF = 65504.0
CLIPS = (1.0, 0.9)
"""Parts of a block's range that its 4-bit steps may span. Rounding a few outer values further can serve the many
others: the part with the smallest squared error is taken, block by block."""


def float_blob(name: str, weight: Weight) -> Blob:
    return Blob(name, "float32", weight.shape, weight.pieces, weight.size)


def half_blob(name: str, weight: Weight) -> Blob:
    """In half precision; BadCheckpoint while it is written when a value is too large for that."""
    return Blob(name, "float16", weight.shape, lambda: (in_half(piece, name) for piece in weight.pieces()), weight.size)


def in_half(values: Floats, name: str) -> NDArray[np.float16]:
    largest = float(np.abs(values).max(initial=0))
    if largest > LARGEST_HALF:
        raise BadCheckpoint(
            f"{name} holds {largest:g}, which half precision cannot.",
            why=f"Its largest number is {LARGEST_HALF:g}.",
            fix="Export at --precision fp32.",
        )
    return values.astype(np.float16)


class LinearFormat(Protocol):
    """A way to keep a matrix."""

    @property
    def precision(self) -> str: ...

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        """Add the nodes of x [.., in] · weight [out, in]ᵀ."""
        ...


@dataclass(frozen=True)
class Float32:
    """As it is, transposed for MatMul."""

    precision: str = "fp32"

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        return g.op("MatMul", x, g.weight(f"{name}.weight", transposed(weight)))


@dataclass(frozen=True)
class Float16:
    """Kept in half precision, multiplied in float32: the CPU has no half-precision product. Half the bytes on disk, and
    none saved in memory: the backend widens the weights when it opens the graph."""

    precision: str = "fp16"

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        rows, width = weight.shape
        # transposed here and not in the graph, where it would be one copy more in memory
        retained = Blob(
            f"{name}.weight", "float16", (width, rows), lambda: half_columns(weight, f"{name}.weight"), weight.size
        )
        return g.op("MatMul", x, g.op("Cast", g.blob(retained), to=1))


@dataclass(frozen=True)
class Int8Rows:
    """int8 weights with a scale for every output, int8 activations with a scale for every row: fastest for many rows.

    The operator takes one scale for all activations, and one row of outliers (language models have such tokens) would
    leave nothing of the others. So every row is first divided by its largest magnitude and the product multiplied by
    it: what the operator then sees has the same range in every row, and its one scale serves them all.
    """

    precision: str = "int8"

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        def row_scale() -> str:
            largest = g.op("ReduceMax", g.op("Abs", x), g.constant([-1]), keepdims=1)
            return g.op("Max", largest, g.constant(TINY, "float32"))

        scale = g.remembered("row_scale", x, row_scale)
        normed = g.remembered("normed", x, lambda: g.op("Div", x, scale))
        columns = _Int8Values(weight)
        rows, width = weight.shape
        values = g.blob(Blob(f"{name}.weight", "int8", (width, rows), columns.values, weight.size))
        scales = g.blob(Blob(f"{name}.scale", "float32", (rows,), columns.scales))
        return g.op("Mul", g.op("DynamicQuantizeMatMul", normed, values, scales, domain="com.microsoft"), scale)


@dataclass(frozen=True)
class Blocks:
    """Weights of 4 or 8 bits in blocks along the input, each block with a scale (and, at 4 bits, a zero point).

    Fewest bytes for every token: the format of a decode step. Activations are quantised to int8 block by block inside
    the operator (accuracy level 4), so that outliers stay where they are.
    """

    bits: int = 4
    block: int = 64

    @property
    def precision(self) -> str:
        return f"int{self.bits}"

    def multiply(self, g: GraphWriter, x: str, weight: Weight, name: str) -> str:
        rows, width = weight.shape
        block = self.block
        while block > 16 and block > width:  # narrow matrices of small models
            block //= 2
        blocks = -(-width // block)
        quantised = _BlockQuantiser(weight, self.bits, block)
        inputs = [
            g.blob(
                Blob(f"{name}.weight", "uint8", (rows, blocks, block * self.bits // 8), quantised.values, weight.size)
            ),
            g.blob(Blob(f"{name}.scale", "float32", (rows * blocks,), quantised.scales)),
        ]
        if self.bits == 4:
            inputs.append(g.blob(Blob(f"{name}.zero", "uint8", (rows * (-(-blocks // 2)),), quantised.zeros)))
        return g.op(
            "MatMulNBits",
            x,
            *inputs,
            domain="com.microsoft",
            K=width,
            N=rows,
            bits=self.bits,
            block_size=block,
            accuracy_level=4,
        )


@dataclass
class _Int8Values:
    """Rows [out, in] of the checkpoint become columns of int8 [in, out]; scales are known once the values are."""

    weight: Weight
    _scales: list[Floats] = field(default_factory=list)

    def values(self) -> Iterator[NDArray[np.int8]]:
        rows, width = self.weight.shape
        turned = np.empty((width, rows), np.int8)
        self._scales, start = [], 0
        for quantised, scale in in_parallel(_int8_rows, self.weight.pieces()):
            turned[:, start : start + len(quantised)] = quantised.T
            start += len(quantised)
            self._scales.append(scale)
        yield turned

    def scales(self) -> Iterator[Floats]:
        yield from self._scales
        self._scales = []


@dataclass
class _BlockQuantiser:
    """Values are produced first; scales and zero points are kept until they are asked for."""

    weight: Weight
    bits: int
    block: int
    _scales: list[Floats] = field(default_factory=list)
    _zeros: list[NDArray[np.uint8]] = field(default_factory=list)

    def values(self) -> Iterator[NDArray[np.uint8]]:
        self._scales, self._zeros = [], []
        quantise = _four_bits if self.bits == 4 else _eight_bits
        for values, scales, zeros in in_parallel(lambda rows: quantise(rows, self.block), self.weight.pieces()):
            self._scales.append(scales)
            self._zeros.append(zeros)
            yield values

    def scales(self) -> Iterator[Floats]:
        yield from self._scales
        self._scales = []  # of all layers together they would be a tenth of the model

    def zeros(self) -> Iterator[NDArray[np.uint8]]:
        yield from self._zeros
        self._zeros = []


def half_columns(weight: Weight, name: str) -> Iterator[NDArray[np.float16]]:
    """[out, in] → float16 [in, out], a block of columns at a time and all rows read for each: the head of a large
    vocabulary would be gigabytes at once."""
    rows, width = weight.shape
    step = max(HALF_BLOCK_BYTES // (2 * rows), 1)
    for first in range(0, width, step):
        block = np.empty((min(step, width - first), rows), np.float16)
        done = 0
        for piece in weight.pieces():
            block[:, done : done + len(piece)] = in_half(piece[:, first : first + step], name).T
            done += len(piece)
        yield block


def _int8_rows(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    scale = np.maximum(np.abs(rows).max(axis=1), TINY).astype(np.float32) / np.float32(127)
    return np.rint(rows / scale[:, None]).astype(np.int8), scale


def _blocked(rows: Floats, block: int) -> Floats:
    """[rows, in] → [rows, blocks, block], the last block filled up with zeros."""
    missing = -rows.shape[1] % block
    if missing:
        rows = np.pad(rows, ((0, 0), (0, missing)))
    return rows.reshape(len(rows), -1, block)


def _eight_bits(rows: Floats, block: int) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint8]]:
    """Symmetric around 128, which the operator takes for zero when it is told none."""
    blocks = _blocked(rows, block)
    scales = np.maximum(np.abs(blocks).max(axis=2), TINY).astype(np.float32) / np.float32(127)
    values = blocks * (np.float32(1) / scales)[:, :, None]
    np.rint(values, out=values)
    values += np.float32(128)
    return values.astype(np.uint8), scales.ravel(), np.zeros(0, np.uint8)


def _four_bits(rows: Floats, block: int) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint8]]:
    """From the least to the largest of a block in 15 steps, or a part of that range, zero on one of them; two values a
    byte, the first low."""
    blocks = _blocked(rows, block)
    minimum, largest = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    scales, zeros = np.empty_like(minimum), np.empty_like(minimum)
    smallest = np.full_like(minimum, np.inf)
    for clip in CLIPS:
        scale = np.maximum((largest - minimum) * np.float32(clip / 15), np.float32(TINY))
        zero = np.clip(np.rint(minimum * np.float32(-clip) / scale), 0, 15)
        steps, off = _in_steps(blocks, scale, zero)
        off -= steps
        error = np.einsum("rbi,rbi->rb", off, off) * scale**2
        better = error < smallest
        for best, tried in ((scales, scale), (zeros, zero), (smallest, error)):
            np.copyto(best, tried, where=better)
    values = _in_steps(blocks, scales, zeros)[0].astype(np.uint8)
    packed = zeros.astype(np.uint8)
    if packed.shape[1] % 2:
        packed = np.pad(packed, ((0, 0), (0, 1)))
    return _nibbles(values), scales.ravel(), _nibbles(packed).ravel()


def _in_steps(blocks: Floats, scale: Floats, zero: Floats) -> tuple[Floats, Floats]:
    """``blocks`` in steps of ``scale`` above ``zero``: rounded to 0 … 15, and as they were."""
    exact = blocks * (np.float32(1) / scale)[:, :, None]
    exact += zero[:, :, None]
    rounded = np.rint(exact)
    np.clip(rounded, 0, 15, out=rounded)
    return rounded, exact


def _nibbles(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.bitwise_or(values[..., 0::2], np.left_shift(values[..., 1::2], 4, dtype=np.uint8))


def in_parallel(work: Callable[[Floats], Any], pieces: Iterator[Floats], workers: int = 2) -> Iterator[Any]:
    """``work`` on every piece in order, a few at a time: numpy lets go of the interpreter while it computes."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = []
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
