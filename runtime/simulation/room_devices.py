"""The microphone and the speaker of a simulated room."""

from __future__ import annotations

import queue
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..audio_io.device_protocols import AudioBlock, SpeakerSource, Tap
from .echo_path import SPEAKER_RATE_HZ

__all__ = ["RoomMicrophone", "RoomSpeaker"]

WAITING_BLOCKS = 500
"""Blocks that wait to be read at most: 5 s."""


class RoomMicrophone:
    """Hears what the room gives it while it is open."""

    name = "simulated microphone"
    lost = False

    def __init__(self) -> None:
        self.dropouts = 0
        self._open = False
        self._blocks: queue.Queue[AudioBlock] = queue.Queue(WAITING_BLOCKS)

    def hear(self, samples: NDArray[np.float32], end_s: float) -> None:
        if not self._open:
            return
        try:
            self._blocks.put_nowait(AudioBlock(samples, end_s))
        except queue.Full:
            self.dropouts += 1

    @property
    def waiting(self) -> int:
        """Blocks that were not read yet."""
        return self._blocks.qsize()

    def read(self, timeout_s: float) -> AudioBlock | None:
        try:
            return self._blocks.get(timeout=timeout_s) if timeout_s > 0 else self._blocks.get_nowait()
        except queue.Empty:
            return None

    def __enter__(self) -> RoomMicrophone:
        self._blocks = queue.Queue(WAITING_BLOCKS)
        self.dropouts = 0
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False


class RoomSpeaker:
    """Plays a source of 24 kHz while it is open."""

    name = "simulated speaker"
    lost = False

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.underflows = 0
        self._open = False
        self._playing: tuple[SpeakerSource, Tap | None] | None = None

    def start(self, source: SpeakerSource, tap: Tap | None = None) -> None:
        if source.sample_rate_hz != SPEAKER_RATE_HZ:
            raise ValueError(f"the simulated speaker plays {SPEAKER_RATE_HZ} Hz, not {source.sample_rate_hz}")
        self._playing = (source, tap)

    def play(self, count: int, at_s: float) -> NDArray[np.float32]:
        """float32 [count]: what sounds from ``at_s`` on."""
        playing = self._playing
        if not self._open or playing is None:
            return np.zeros(count, np.float32)
        source, tap = playing
        samples = source.pull(count, at_s)
        if tap:
            tap(samples, at_s)
        return np.clip(samples, -1, 1)

    def __enter__(self) -> RoomSpeaker:
        self.underflows = 0
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._playing = None
