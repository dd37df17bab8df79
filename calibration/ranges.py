"""How far the range of an activation goes: all that was seen, all but a tail, or what loses least information."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.tensors import Array

__all__ = ["METHODS", "Observed", "Range", "candidates", "own_range", "quantised", "rounded_steps"]

Floats = NDArray[np.float32]

METHODS = ("minmax", "percentile", "entropy")
PERCENTILE = 99.99
TAILS = (99.9, 99.99, 99.999)
"""Percentiles that ``auto`` tries."""
WAVE_TAILS = (99.999,)
"""At what convolutions read and make. A peak that is cut off there is the largest error of the sound that comes out,
even where it makes the noise smaller on the whole; for the same reason the entropy range is not tried."""
BINS, LEVELS = 512, 128
TINY = 1e-12
"""A tensor of zeros has some range, too."""


@dataclass(frozen=True)
class Range:
    """Values beyond ``limit`` are cut off; the rest is told in 127 steps on either side of zero."""

    method: str
    limit: float


@dataclass
class Observed:
    """What was seen of one tensor: its largest magnitude, exactly, and some of its rows.

    Args:
        samples: how many will be seen.
        rows: how many to keep in all, as many of each sample; what a short one lacks, the others give. None keeps
            ``whole`` samples as they are (for convolutions).
    """

    samples: int
    rows: int | None
    whole: int = 4
    amax: float = 0.0
    channels: Floats | None = None
    """Largest magnitude of every channel, when rows are kept."""
    values: int = 0
    dtype: str = "float32"
    retained: list[Floats] = field(default_factory=list)

    def __call__(self, array: Array, number: int) -> None:
        if not array.size:
            return
        self.dtype = array.dtype.name
        amax = max(float(array.max()), -float(array.min()))
        self.amax = max(self.amax, math.inf if math.isnan(amax) else amax)
        self.values += array.size
        if self.rows is None:
            if number % -(-self.samples // self.whole) == 0:
                self.retained.append(array.astype(np.float32))
            return
        flat = array.reshape(-1, array.shape[-1])
        channels = np.maximum(flat.max(axis=0), -flat.min(axis=0)).astype(np.float32)
        self.channels = channels if self.channels is None else np.maximum(self.channels, channels)
        self.retained.append(_evenly(flat, self.rows).astype(np.float32))
        maximum = _level([len(rows) for rows in self.retained], self.rows)
        self.retained = [_evenly(rows, maximum) for rows in self.retained]

    @property
    def measurable(self) -> bool:
        """Whether there is a range, and something to try it on: not where all was zero, or all that was kept, or
        something was no number."""
        return 0 < self.amax < math.inf and any(rows.any() for rows in self.retained)

    def inputs(self) -> list[Floats]:
        """What a layer is tried on: one block of rows, or whole samples."""
        if self.rows is None or not self.retained:
            return self.retained
        return [np.concatenate(self.retained)]

    def divided(self, factor: Floats) -> Observed:
        """As if every channel had been divided by its ``factor``."""
        assert self.channels is not None
        channels = self.channels / factor
        retained = [rows / factor for rows in self.retained]
        return Observed(
            self.samples, self.rows, self.whole, float(channels.max()), channels, self.values, self.dtype, retained
        )


def _level(lengths: Sequence[int], room: int) -> int:
    """How many to keep at most of each, so that all together fit into ``room``; at least one."""
    for rank, length in enumerate(sorted(lengths)):
        share = room // (len(lengths) - rank)
        if length > share:
            return max(share, 1)
        room -= length
    return max(lengths)


def _evenly(rows: NDArray[Any], maximum: int) -> NDArray[Any]:
    return rows if len(rows) <= maximum else rows[np.arange(maximum) * len(rows) // maximum]


def candidates(seen: Observed, method: str) -> Iterator[Range]:
    """The range of a method, or at ``auto`` all that are worth a try."""
    if method in ("minmax", "auto"):
        yield Range("minmax", max(seen.amax, TINY))
    if method == "minmax" or not seen.retained:
        return
    magnitudes = np.abs(np.concatenate([array.ravel() for array in seen.retained]))
    waves = seen.rows is None
    if method in ("percentile", "auto"):
        tails = (PERCENTILE,) if method == "percentile" else WAVE_TAILS if waves else TAILS
        for tail, limit in zip(tails, np.percentile(magnitudes, list(tails))):
            yield Range("percentile" if method == "percentile" else f"percentile {tail:g}", max(float(limit), TINY))
    if method == "entropy" or (method == "auto" and not waves):
        yield Range("entropy", max(_entropy_limit(magnitudes, seen.amax), TINY))


def own_range(seen: Observed, method: str) -> Range:
    """The range in which rounding changes the tensor itself least."""
    values = np.concatenate([array.ravel() for array in seen.retained])
    ranges = list(candidates(seen, method))
    errors = [np.square(values - quantised(values, each.limit, seen.dtype), dtype=np.float64).sum() for each in ranges]
    return ranges[int(np.argmin(errors))]


def quantised(x: Floats, limit: float, scale_dtype: str) -> Floats:
    """``x`` as it is after QuantizeLinear and DequantizeLinear."""
    return rounded_steps(x, limit, scale_dtype) * activation_scale(limit, scale_dtype)


def rounded_steps(x: Floats, limit: float, scale_dtype: str) -> Floats:
    """-128 … 127, what QuantizeLinear makes of ``x``."""
    return np.clip(np.rint(x / activation_scale(limit, scale_dtype)), -128, 127)


def activation_scale(limit: float, dtype: str) -> np.float32:
    """limit / 127 as the graph will hold it; never zero."""
    scale = np.dtype(dtype).type(limit / 127)
    return np.float32(max(scale, np.finfo(dtype).tiny))


def _entropy_limit(magnitudes: Floats, amax: float) -> float:
    """Where a histogram and its image in ``LEVELS`` steps differ least, by ONNX Runtime's entropy calibration.

    Values are mirrored, so that the range has zero in its middle; the steps count both sides, and are twice as coarse
    as the 127 on either side that are rounded to. TensorRT has 128 on one side.
    """
    from onnxruntime.quantization.calibrate import HistogramCollector

    collector: Any = HistogramCollector("entropy", True, BINS, LEVELS, PERCENTILE, "same")
    both = np.concatenate([magnitudes, -magnitudes, np.array([amax, -amax], np.float32)])
    if not both.any():
        return 0.0
    collector.collect_value({"x": both})
    low, high = collector.get_entropy_threshold(collector.get_histogram_dict()["x"], LEVELS)
    return float(max(abs(low), abs(high)))
