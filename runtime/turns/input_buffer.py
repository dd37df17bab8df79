"""What the microphone has heard lately, by the count of its samples: the same words are the same clip, at any speed."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

from ..audio_io.device_protocols import BLOCK, MICROPHONE_RATE_HZ, AudioBlock

__all__ = ["Recording"]


class Recording:
    """Keeps the newest blocks. Times are seconds of sound heard, 0 at the first block; one thread adds, any cuts.

    Args:
        keep_s: how much is kept.
    """

    def __init__(self, keep_s: float) -> None:
        self._blocks: deque[NDArray[np.float32]] = deque(maxlen=round(keep_s * MICROPHONE_RATE_HZ / BLOCK))
        self._count = 0
        self._offset_s = 0.0
        self._lock = threading.Lock()

    @property
    def end_s(self) -> float:
        """Seconds of sound that were heard."""
        return self._count * BLOCK / MICROPHONE_RATE_HZ

    def add(self, block: AudioBlock) -> None:
        """Append 10 ms."""
        with self._lock:
            self._blocks.append(block.samples)
            self._count += 1
            self._offset_s = block.end_s - self.end_s

    def monotonic_s(self, heard_s: float) -> float:
        """When a moment of the recording was captured, in seconds of ``time.monotonic()``."""
        return heard_s + self._offset_s

    def cut(self, begin_s: float, end_s: float | None = None) -> NDArray[np.float32]:
        """What was heard between two times, as far as it is kept: float32 [n] at 16 kHz."""
        with self._lock:
            first = self._count - len(self._blocks)
            begin = max(round(begin_s * MICROPHONE_RATE_HZ) - first * BLOCK, 0)
            end = len(self._blocks) * BLOCK if end_s is None else round(end_s * MICROPHONE_RATE_HZ) - first * BLOCK
            low, high = begin // BLOCK, -(-end // BLOCK)
            blocks = [self._blocks[i] for i in range(low, min(high, len(self._blocks)))]
        if not blocks:
            return np.zeros(0, np.float32)
        return np.concatenate(blocks)[begin - low * BLOCK : end - low * BLOCK]
