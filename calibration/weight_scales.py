"""Weights in 8 bits with a scale for every output, or in 4 or 8 bits with a scale for every block of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BlockGrid",
    "Blocked",
    "block_that_fits",
    "channel_int8",
    "dequantised",
    "gptq_blocks",
    "moments_factor",
    "round_blocks",
]

Floats = NDArray[np.float32]
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Parts of a block's range that ``searched`` tries."""
SMALLEST_BLOCK = 16
DAMPING, TINY = 0.01, 1e-12
PANEL = 512
"""Inputs whose part of a factor is computed at once."""


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
    minimum = np.full_like(low, np.inf)
    for clip in CLIPS if search else CLIPS[:1]:
        scales = stored_scales((high - low) * np.float32(clip / ((1 << grid.bits) - 1)), grid.scale_dtype)
        zeros = (
            np.zeros_like(low)
            if grid.symmetric
            else np.clip(np.rint(-low * np.float32(clip) / scales), 0, grid.highest)
        )
        error = np.square((_steps(blocks, scales, zeros, grid) - zeros[:, None]) * scales[:, None] - blocks).sum(axis=1)
        better = error < minimum
        for best, tried in ((best_scales, scales), (best_zeros, zeros), (minimum, error)):
            np.copyto(best, tried, where=better)
    values = _steps(blocks, best_scales, best_zeros, grid).reshape(weight.shape)
    return Blocked(grid, values.astype(np.int8), best_scales, best_zeros)


def gptq_blocks(weight: Floats, factor: Floats, grid: BlockGrid) -> Blocked:
    """weight [in, out] by GPTQ (Frantar and others, 2022): input by input, what rounding those before has changed in
    the output is made up for, as far as the moments of the inputs allow; ``factor`` is their :func:`moments_factor`.

    GPTQ is told with a factor of the inverse of the moments. The same steps come of a factor of the moments themselves
    (Chee and others, 2023: LDLQ), which spares the inverse: of the widest matrices it would be most of the work, and
    gigabytes. Ranges are searched block by block, on what the weights would be if from there on none was rounded.
    """
    errors = np.empty(weight.shape, np.float32)  # of the inputs that are rounded: what the weight was, less what it is
    values = np.empty(weight.shape, np.int8)
    scales, zeros = (np.empty((len(weight) // grid.block, weight.shape[1]), np.float32) for _ in range(2))
    for b, start in enumerate(range(0, len(weight), grid.block)):
        stop = start + grid.block
        passed_on = factor[:stop, start:stop] / np.diag(factor)[start:stop]
        due = passed_on[:start].T @ errors[:start]
        ranges = round_blocks(weight[start:stop] + np.linalg.solve(passed_on[start:].T, due), grid, search=True)
        scales[b], zeros[b] = ranges.scales[0], ranges.zeros[0]
        here = weight[start:stop] + due
        for i in range(grid.block):
            steps = np.clip(np.rint(here[i] / scales[b]) + zeros[b], grid.lowest, grid.highest)
            values[start + i] = steps
            errors[start + i] = weight[start + i] - (steps - zeros[b]) * scales[b]
            here[i + 1 :] += np.outer(passed_on[start + i, i + 1 :], errors[start + i])
    return Blocked(grid, values, scales, zeros)


def moments_factor(inputs: Floats) -> Floats:
    """R [in, in], upper triangular, with R Rᵀ the second moments of ``inputs`` [rows, in], dampened by a hundredth.

    In place, and in single precision, for which the damping is enough: beside the moments there is one panel of them.
    """
    moments = inputs.T @ inputs
    moments /= np.float32(max(len(inputs), 1))
    spread = np.diag(moments)
    np.fill_diagonal(moments, np.where(spread > 0, spread, 1) + DAMPING * max(spread.mean(), TINY))
    for stop in range(len(moments), 0, -PANEL):  # from the last inputs to the first: those come before in GPTQ
        start = max(stop - PANEL, 0)
        panel = moments[:stop, start:stop]
        panel -= moments[:stop, stop:] @ moments[start:stop, stop:].T
        corner = panel[start:].astype(np.float64)
        corner = np.linalg.cholesky(corner[::-1, ::-1])[::-1, ::-1]
        panel[:start] @= np.linalg.inv(corner).T.astype(np.float32)
        panel[start:] = corner
        moments[stop:, start:stop] = 0
    return moments


def _steps(blocks: Floats, scales: Floats, zeros: Floats, grid: BlockGrid) -> Floats:
    return np.clip(np.rint(blocks / scales[:, None]) + zeros[:, None], grid.lowest, grid.highest)
