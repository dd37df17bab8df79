"""Log-mel features as Whisper's extractor makes them, in numpy: what Smart Turn hears."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_mel"]

RATE_HZ, WINDOW, HOP, BANDS = 16_000, 400, 160, 80
RANGE = 8.0
"""Powers of ten below the loudest that are told apart."""


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of float32 [n] at 16 kHz, n a multiple of 160 and at least 400.

    The samples are brought to zero mean and unit variance first. Windows of 25 ms (periodic Hann) stand every 10 ms,
    with the signal mirrored at both ends; powers are summed by 80 triangles of Slaney's mel scale.

    Returns:
        float32 [80, n / 160].
    """
    level = samples.astype(np.float64)
    level = (level - level.mean()) / np.sqrt(level.var() + 1e-7)
    padded = np.pad(level.astype(np.float32).astype(np.float64), WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: samples.size // HOP]
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(windows * shape, axis=1)) ** 2
    mel = np.log10(np.maximum(power @ _triangles(), 1e-10)).T
    mel = (np.maximum(mel, mel.max() - RANGE) + 4.0) / 4.0
    return np.ascontiguousarray(mel, np.float32)


@cache
def _triangles() -> NDArray[np.float64]:
    """float64 [201, 80]: each band rises from the one before and falls to the one behind, with an area of one."""
    hertz = np.linspace(0, RATE_HZ / 2, WINDOW // 2 + 1)
    edges = _hertz(np.linspace(_mel(0.0), _mel(RATE_HZ / 2), BANDS + 2))
    rising = (hertz[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - hertz[:, None]) / np.diff(edges)[1:]
    return np.asarray(np.maximum(np.minimum(rising, falling), 0) * (2 / (edges[2:] - edges[:-2])))


def _mel(hertz: float) -> float:
    """Slaney's scale: straight to 1 kHz, then logarithmic."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + float(np.log(hertz / 1000)) * 27 / float(np.log(6.4))


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
