"""Weights in 8 bits with a scale for every output, or in 4 or 8 bits with a scale for every block of inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlockGrid", "Blocked", "block_that_fits", "channel_int8", "dequantised", "gptq_blocks", "round_blocks"]

Floats = NDArray[np.float32]
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Parts of a block's range that ``searched`` tries."""
SMALLEST_BLOCK = 16
DAMPING, TINY = 0.01, 1e-12
WIDEST_EXACT = 8192
"""Inputs of a matrix up to which moments are inverted in double precision: beyond, they would take gigabytes more."""


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
    values: NDArray[np.int8]
    """[in, out]"""
    scales: Floats
    """[blocks, out]"""
    zeros: Floats
    """[blocks, out]"""

    def floats(self) -> Floats:
        block, width = self.grid.block, len(self.values)
        scales, zeros = (np.repeat(each, block, axis=0)[:width] for each in (self.scales, self.zeros))
        floats: Floats = (self.values - zeros) * scales
        return floats


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
    return Blocked(grid, values.astype(np.int8), best_scales, best_zeros)


def gptq_blocks(weight: Floats, inputs: Floats, grid: BlockGrid) -> Blocked:
    """weight [in, out] by GPTQ (Frantar and others, 2022): input by input, what rounding one has changed in the output
    is made up for by those that are still to be rounded, as far as the recorded ``inputs`` [rows, in] allow.

    Ranges are searched block by block, on the weights as they then are.
    """
    left = weight.astype(np.float32)
    upper = _inverse_factor(inputs)
    values = np.empty(weight.shape, np.int8)
    scales, zeros = (np.empty((len(weight) // grid.block, weight.shape[1]), np.float32) for _ in range(2))
    for b, start in enumerate(range(0, len(weight), grid.block)):
        stop = start + grid.block
        here = left[start:stop]
        ranges = round_blocks(here, grid, search=True)
        scales[b], zeros[b] = ranges.scales[0], ranges.zeros[0]
        errors = np.empty_like(here)
        for i in range(grid.block):
            steps = np.clip(np.rint(here[i] / scales[b]) + zeros[b], grid.lowest, grid.highest)
            values[start + i] = steps
            factors = upper[start + i, start + i : stop]
            errors[i] = (here[i] - (steps - zeros[b]) * scales[b]) / factors[0]
            here[i + 1 :] -= np.outer(factors[1:], errors[i])
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return Blocked(grid, values, scales, zeros)


def _inverse_factor(inputs: Floats) -> Floats:
    """U, upper triangular, with UᵀU the inverse of the inputs' second moments, dampened by a hundredth."""
    exact = np.float64 if inputs.shape[1] <= WIDEST_EXACT else np.float32
    rows = inputs.astype(exact)
    moments: NDArray[Any] = rows.T @ rows / exact(max(len(rows), 1))
    spread = np.diag(moments)
    np.fill_diagonal(moments, np.where(spread > 0, spread, 1) + DAMPING * max(spread.mean(), TINY))
    return np.linalg.cholesky(np.linalg.inv(moments)).T.astype(np.float32)


def _steps(blocks: Floats, scales: Floats, zeros: Floats, grid: BlockGrid) -> Floats:
    return np.clip(np.rint(blocks / scales[:, None]) + zeros[:, None], grid.lowest, grid.highest)
