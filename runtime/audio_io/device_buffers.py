"""Between the buffers of a device and the talk: blocks of 16 kHz come out, pieces of a source go in, all timed."""

from __future__ import annotations

import queue
import time

import numpy as np
from numpy.typing import NDArray

from .device_protocols import BLOCK, BLOCK_S, MICROPHONE_RATE_HZ, AudioBlock, SpeakerSource, Tap
from .sample_clock import SampleClock
from .stream_resampler import StreamResampler

__all__ = ["Capture", "Playout"]

WAITING_S = 5.0
"""Sound of the microphone that waits to be read, at most."""
PIECE_S = 0.005
"""What the speaker pulls at a time: more would be heard later."""


class Capture:
    """What one opened stream has heard: from the callback's buffers to blocks of 16 kHz."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._clock = SampleClock(rate_hz)
        self._waiting: queue.SimpleQueue[tuple[NDArray[np.float32], float]] = queue.SimpleQueue()
        self._waiting_samples = 0
        self._taken_samples = 0
        self._resampler = StreamResampler(rate_hz, MICROPHONE_RATE_HZ)
        self._left = np.zeros(0, np.float32)
        self._left_end_s = 0.0

    def hear(self, samples: NDArray[np.float32], measured_s: float) -> int:
        """Called from the callback; returns how many blocks were lost, because nobody reads."""
        first_s = self._clock.step(samples.size, measured_s)
        if self._waiting_samples - self._taken_samples > WAITING_S * self.rate_hz:
            return max(round(samples.size / self.rate_hz / BLOCK_S), 1)
        self._waiting_samples += samples.size
        self._waiting.put((samples, first_s + (samples.size - 1) / self.rate_hz))
        return 0

    def read(self, timeout_s: float) -> AudioBlock | None:
        give_up_s = time.monotonic() + timeout_s
        while self._left.size < BLOCK:
            try:
                samples, last_s = self._waiting.get(timeout=max(give_up_s - time.monotonic(), 0))
            except queue.Empty:
                return None
            self._taken_samples += samples.size
            self._left = np.concatenate([self._left, self._resampler.step(samples)])
            self._left_end_s = last_s - self._resampler.pending_s
        block, self._left = self._left[:BLOCK], self._left[BLOCK:]
        return AudioBlock(block, self._left_end_s - self._left.size / MICROPHONE_RATE_HZ)


class Playout:
    """What one opened stream plays of one source: pulls pieces, and gives them at the rate of the device."""

    def __init__(self, source: SpeakerSource, tap: Tap | None, rate_hz: int) -> None:
        self._source, self._tap, self._rate_hz = source, tap, rate_hz
        self._piece = round(source.sample_rate_hz * PIECE_S)
        self._resampler = StreamResampler(source.sample_rate_hz, rate_hz)
        self._left = np.zeros(0, np.float32)

    def step(self, count: int, first_s: float) -> NDArray[np.float32]:
        """float32 [count] that sound from ``first_s`` on."""
        while self._left.size < count:
            at_s = first_s + self._left.size / self._rate_hz + self._resampler.pending_s
            piece = self._source.pull(self._piece, at_s)
            if self._tap:
                self._tap(piece, at_s)
            self._left = np.concatenate([self._left, self._resampler.step(piece)])
        samples, self._left = self._left[:count], self._left[count:]
        return np.clip(samples, -1, 1)
