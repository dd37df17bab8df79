"""A codec generator of one channel in numpy: the real layers in the real order, small enough to know everything about.

How far a code reaches does not depend on the number of channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TINY_A = ((3, 5, 5, 8), (3, 11, 11, 16), (1, 3), ((1, 3, 5), (1, 3, 9)), "1")
"""Rates, kernels, block kernels, dilations, block type of the golden checkpoint."""
RELEASE = ((8, 5, 5, 3), (16, 11, 11, 5), (3, 7, 11), ((1, 3, 5),) * 3, "1")
"""The known configuration of the release (spec 8.7)."""


class ToyCodec:
    """Code embeddings to waveform. With ``rng`` random weights, leaky ReLU and tanh; without, all weights are one and
    there is nothing else, so that what a single 1 touches is exactly what is not zero."""

    def __init__(
        self,
        rates: Sequence[int],
        kernels: Sequence[int],
        block_kernels: Sequence[int],
        dilations: Sequence[Sequence[int]],
        block_type: str,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.samples_per_code = math.prod(rates)
        self.linear = rng is None
        self.table = np.ones(0) if rng is None else rng.normal(size=4096)

        def weights(kernel: int, gain: float) -> np.ndarray:
            return np.ones(kernel) if rng is None else rng.normal(size=kernel) * gain / math.sqrt(kernel)

        self.pre, self.post = weights(7, 1.5), weights(7, 0.3)
        self.stages = [
            (
                rate,
                weights(kernel, math.sqrt(2 * rate)),
                [
                    [(d, weights(k, 0.4), weights(k, 0.4) if block_type == "1" else None) for d in ds]
                    for k, ds in zip(block_kernels, dilations)
                ],
            )
            for rate, kernel in zip(rates, kernels)
        ]

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Codes int64 [1, n] to float32 [n * samples_per_code]."""
        return self.generate(self.table[codes[0]]).astype(np.float32)

    def generate(self, x: np.ndarray) -> np.ndarray:
        """x: float64 [frames]; returns float64 [frames * samples_per_code]."""
        x = _convolve(x, self.pre)
        for rate, up, blocks in self.stages:
            x = _upsample(self._bend(x), up, rate)
            x = sum(self._block(x, block) for block in blocks) / len(blocks)
        x = _convolve(self._bend(x), self.post)
        return x if self.linear else np.tanh(x)

    def _block(self, x: np.ndarray, block: list) -> np.ndarray:
        for dilation, first, second in block:
            y = _convolve(self._bend(x), first, dilation)
            x = x + (y if second is None else _convolve(self._bend(y), second))
        return x

    def _bend(self, x: np.ndarray) -> np.ndarray:
        return x if self.linear else np.where(x > 0, x, 0.1 * x) + 0.01  # the bias makes zero padding visible


def _convolve(x: np.ndarray, w: np.ndarray, dilation: int = 1) -> np.ndarray:
    padded = np.pad(x, dilation * (len(w) - 1) // 2)
    return sum(w[j] * padded[j * dilation : j * dilation + len(x)] for j in range(len(w)))


def _upsample(x: np.ndarray, w: np.ndarray, rate: int) -> np.ndarray:
    """A transposed convolution, padded by (kernel - rate) // 2 like the generator's."""
    y = np.zeros((len(x) - 1) * rate + len(w))
    for j in range(len(w)):
        y[j : j + (len(x) - 1) * rate + 1 : rate] += w[j] * x
    padding = (len(w) - rate) // 2
    return y[padding : padding + len(x) * rate]
