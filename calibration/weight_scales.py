"""Weights in 8 bits with a scale for every output, or in 4 or 8 bits with a scale for every block of inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import MissingPackage

__all__ = ["BlockGrid", "Blocked", "block_that_fits", "channel_int8", "dequantised", "gptq_blocks", "round_blocks"]

Floats = NDArray[np.float32]
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Parts of a block's range that ``searched`` tries."""
SMALLEST_BLOCK = 16


def channel_int8(weight: Floats, axis: int, scale_dtype: str) -> tuple[NDArray[np.int8], Floats]:
    """int8 values and one scale for each entry of ``axis``: largest magnitude / 127, as ``scale_dtype`` holds it."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = stored_scales(np.abs(weight).max(axis=others) / np.float32(127), scale_dtype)
    shape = [1] * weight.ndim
    shape[axis] = -1
    values = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127)
    return values.astype(np.int8), scales


def dequantised(values: NDArray[np.int8], scales: Floats, axis: int) -> Floats:
    shape = [1] * values.ndim
    shape[axis] = -1
    return values.astype(np.float32) * scales.reshape(shape)


def stored_scales(scales: Floats, dtype: str) -> Floats:
    """As the graph holds them; never zero."""
    return np.maximum(scales.astype(dtype), np.finfo(dtype).tiny).astype(np.float32)


@dataclass(frozen=True)
class BlockGrid:
    """Steps that a block's values are rounded to: -8 … 7 around zero, or 0 … 15 above a zero point of the block."""

    block: int
    bits: int = 4
    symmetric: bool = True
    scale_dtype: str = "float32"

    @property
    def lowest(self) -> int:
        return -(1 << self.bits - 1) if self.symmetric else 0

    @property
    def highest(self) -> int:
        return self.lowest + (1 << self.bits) - 1


@dataclass(frozen=True)
class Blocked:
    """A matrix [in, out] on a grid."""

    grid: BlockGrid
    values: NDArray[np.int16]
    """[in, out]"""
    scales: Floats
    """[blocks, out]"""
    zeros: Floats
    """[blocks, out]"""

    def floats(self) -> Floats:
        block, width = self.grid.block, len(self.values)
        scales, zeros = (np.repeat(each, block, axis=0)[:width] for each in (self.scales, self.zeros))
        return (self.values - zeros) * scales


def block_that_fits(block: int, width: int) -> int | None:
    """The largest block that divides ``width`` evenly: ``block``, or halved until it does; None when none does."""
    while block >= SMALLEST_BLOCK:
        if width % block == 0:
            return block
        block //= 2
    return None


def round_blocks(weight: Floats, grid: BlockGrid, *, search: bool) -> Blocked:
    """weight [in, out] to the nearest steps; with ``search``, each block in the part of its range that errs least."""
    blocks = weight.reshape(-1, grid.block, weight.shape[1])
    low, high = np.minimum(blocks.min(axis=1), 0), np.maximum(blocks.max(axis=1), 0)
    if grid.symmetric:
        high = np.maximum(high, -low)
        low = -high
    best_scales, best_zeros = np.empty_like(low), np.zeros_like(low)
    least = np.full_like(low, np.inf)
    for clip in CLIPS if search else CLIPS[:1]:
        scales = stored_scales((high - low) * np.float32(clip / ((1 << grid.bits) - 1)), grid.scale_dtype)
        zeros = (
            np.zeros_like(low)
            if grid.symmetric
            else np.clip(np.rint(-low * np.float32(clip) / scales), 0, grid.highest)
        )
        error = np.square((_steps(blocks, scales, zeros, grid) - zeros[:, None]) * scales[:, None] - blocks).sum(axis=1)
        better = error < least
        for best, tried in ((best_scales, scales), (best_zeros, zeros), (least, error)):
            np.copyto(best, tried, where=better)
    values = _steps(blocks, best_scales, best_zeros, grid).reshape(weight.shape)
    return Blocked(grid, values.astype(np.int16), best_scales, best_zeros)


def gptq_blocks(weight: Floats, inputs: Floats, grid: BlockGrid) -> Blocked:
    """weight [in, out] by GPTQ, which lets later inputs make up for the rounding of earlier ones, on ``inputs``
    [rows, in] that were recorded. The work is ONNX Runtime's.

    Raises:
        MissingPackage: it needs onnx-ir.
    """
    try:
        from onnxruntime.quantization.neural_compressor.weight_only import gptq
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"GPTQ needs the package {error.name}.",
            why="ONNX Runtime's implementation imports it.",
            fix="Install vita-edge with its extra: calibration.",
        ) from error
    exact = np.float64 if len(weight) <= 8192 else np.float32  # the inverse of a wide one would take 3 GB more
    rows = inputs.astype(exact)
    hessian: NDArray[Any] = rows.T @ rows * exact(2 / max(len(rows), 1))
    fake = gptq(
        weight.astype(np.float32),
        hessian,
        num_bits=grid.bits,
        group_size=grid.block,
        scheme="sym" if grid.symmetric else "asym",
        blocksize=grid.block,
        mse=True,
    )
    return _on_grid(np.asarray(fake, np.float32), grid)


def _on_grid(fake: Floats, grid: BlockGrid) -> Blocked:
    """Find the steps that values were rounded to: the coarsest scale of which all values of a block are multiples."""
    blocks = fake.reshape(-1, grid.block, fake.shape[1])
    largest = np.abs(blocks).max(axis=1)
    steps = 1 << grid.bits
    scales, off = np.full_like(largest, np.finfo(np.float32).tiny), np.full_like(largest, np.inf)
    for count in range(1, steps):
        tried = np.maximum(largest / np.float32(count), np.finfo(np.float32).tiny)
        steps_away = blocks / tried[:, None]
        error = np.abs(steps_away - np.rint(steps_away)).max(axis=1)
        better = error < np.where(off < 1e-3, -1, off)
        np.copyto(scales, tried, where=better)
        np.copyto(off, error, where=better)
    multiples = np.rint(blocks / scales[:, None])
    zeros = np.zeros_like(scales) if grid.symmetric else np.clip(-multiples.min(axis=1), 0, grid.highest)
    values = np.clip(multiples + zeros[:, None], grid.lowest, grid.highest).reshape(fake.shape)
    return Blocked(grid, values.astype(np.int16), stored_scales(scales, grid.scale_dtype), zeros)


def _steps(blocks: Floats, scales: Floats, zeros: Floats, grid: BlockGrid) -> Floats:
    return np.clip(np.rint(blocks / scales[:, None]) + zeros[:, None], grid.lowest, grid.highest)
