"""Changing the rate of a stream of sound, a millisecond late.

Written out because the maintained streaming library, python-soxr, holds back 37 to 40 ms at its qualities that filter,
in each direction, and somebody waits for every one of them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["StreamResampler"]

ZERO_CROSSINGS = 16
ROLLOFF, KAISER_BETA = 0.92, 8.0


class StreamResampler:
    """Pieces of a stream in, pieces at another rate out: a windowed sinc, one row of weights for each phase.

    Output sample ``j`` is the stream at the time ``j / to_hz``; it comes as soon as the 16 zero crossings after it are
    there. The pieces joined are the same however the stream is cut.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self._in, self._out = from_hz // divisor, to_hz // divisor
        self._from_hz, self._to_hz = from_hz, to_hz
        self._weights = _weights(self._in, self._out)
        taps = self._weights.shape[1]
        self._before = taps // 2 - 1  # samples of the window before the one at or before its centre
        self.reset()

    def reset(self) -> None:
        """As before the first sample."""
        self._past = np.zeros(self._before, np.float32)
        self._past_begins = -self._before
        self._taken = 0
        self._given = 0

    def flush(self) -> NDArray[np.float32]:
        """The stream has ended: what was held back, float32 [m]; silence follows it. Afterwards it is as new."""
        missing = round(self.pending_s * self._to_hz)
        tail = self.step(np.zeros(self._weights.shape[1] + 1, np.float32))[:missing]
        self.reset()
        return tail

    @property
    def pending_s(self) -> float:
        """How much has been taken and not given yet."""
        return self._taken / self._from_hz - self._given / self._to_hz

    def step(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n] → float32 [m], what follows the pieces before."""
        self._taken += samples.size
        if self._in == self._out:
            self._given = self._taken
            return samples
        taps = self._weights.shape[1]
        stream = np.concatenate([self._past, samples])
        last = self._past_begins + stream.size - taps + self._before  # the last centre with a whole window
        end = max((last + 1) * self._out - 1, -1) // self._in + 1  # the first output whose centre lies behind it
        positions = np.arange(self._given, max(end, self._given), dtype=np.int64) * self._in
        starts = positions // self._out - self._before - self._past_begins
        windows = np.lib.stride_tricks.sliding_window_view(stream, taps)[starts] if starts.size else stream[:0, None]
        result = np.einsum("ij,ij->i", windows, self._weights[positions % self._out][:, : windows.shape[1]])
        self._given += positions.size
        keep = self._given * self._in // self._out - self._before - self._past_begins
        self._past = stream[keep:]
        self._past_begins += keep
        return result.astype(np.float32, copy=False)


def _weights(in_: int, out: int) -> NDArray[np.float32]:
    """float32 [out, taps]: for each phase the weights of the samples around a centre."""
    scale = min(1.0, out / in_) * ROLLOFF
    half = math.ceil(ZERO_CROSSINGS / min(1.0, out / in_))
    distance = np.arange(1 - half, half + 1) - np.arange(out)[:, None] / out
    window = np.i0(KAISER_BETA * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, 1))) / np.i0(KAISER_BETA)
    weights = scale * np.sinc(scale * distance) * window
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
