"""The way from a simulated speaker to a simulated microphone: delay, reflections, and the change of rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..audio_io.device_protocols import BLOCK, BLOCK_S

__all__ = ["SPEAKER_RATE_HZ", "EchoPath"]

SPEAKER_RATE_HZ = 24_000
PULLED = round(SPEAKER_RATE_HZ * BLOCK_S)
GRID_HZ = 48_000  # sample m of the microphone lies at 3 m, sample k of the speaker at 2 k
CUT_HZ = 7_200
DECAY_S, LENGTH_S = 0.018, 0.08


class EchoPath:
    """Blocks of the speaker in, what the microphone hears of them out. Linear; the same for the same seed."""

    def __init__(self, echo_db: float, delay_s: float, seed: int) -> None:
        """
        Args:
            echo_db: level of the echo against what is played, for sounds of 200 to 4,000 Hz.
            delay_s: from the block that is given to the first of it in the block that is returned.
        """
        kernel = (impulse_response(seed) * 10 ** (echo_db / 20)).astype(np.float32)
        self._even, self._odd = kernel[0::2][::-1].copy(), kernel[1::2][::-1].copy()
        self._taps = self._even.size
        self._start = self._taps - 1
        self._past = np.zeros(self._start + round(delay_s * SPEAKER_RATE_HZ) + PULLED, np.float32)

    def step(self, played: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [240] at 24 kHz → float32 [160] at 16 kHz."""
        self._past[:-PULLED] = self._past[PULLED:]
        self._past[-PULLED:] = played
        heard = np.zeros(BLOCK, np.float32)
        reach = self._past[: self._start + PULLED]
        if reach.any():
            windows = np.lib.stride_tricks.sliding_window_view(reach, self._taps)
            heard[0::2] = windows[0::3] @ self._even
            heard[1::2] = windows[1::3] @ self._odd
        return heard


def impulse_response(seed: int) -> NDArray[np.float64]:
    """float64 [3936] on a grid of 48 kHz: the direct sound, then a tail that falls by 60 dB in 0.12 s.

    Band-limited for the microphone, and of unit gain on average between 200 and 4,000 Hz.
    """
    t = np.arange(round(LENGTH_S * GRID_HZ)) / GRID_HZ
    response = 0.08 * np.random.default_rng(seed).standard_normal(t.size) * np.exp(-t / DECAY_S)
    response[0] = 1.0
    x = np.arange(-48, 49) / GRID_HZ
    response = np.convolve(response, np.hanning(x.size) * np.sinc(2 * CUT_HZ * x))
    spectrum = np.abs(np.fft.rfft(response, 1 << 14)) / 2  # each sample meets every second one of the response
    frequency = np.fft.rfftfreq(1 << 14, 1 / GRID_HZ)
    band = (frequency > 200) & (frequency < 4_000)
    return response / np.sqrt(np.mean(spectrum[band] ** 2))
