"""What the microphone hears, without what the speaker plays: WebRTC's echo canceller on one clock for both."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import MissingPackage
from vita_edge.engines.install import install_fix

from .device_protocols import BLOCK, BLOCK_S, MICROPHONE_RATE_HZ, AudioBlock
from .stream_resampler import StreamResampler

__all__ = ["CancelsEcho", "EchoCanceller", "Headphones"]

LEAD_S = 0.01
"""The reference is given so much earlier than the clock says: an echo must not come before its reference, and the times
of converters are good to some milliseconds."""
TOLERANCE_S = 0.015
"""Both streams run on without a jump while their clocks agree to this."""
KEPT_S = 2.0
WAITING_PIECES = 1000
MILD = 1
"""WebRTC's second of four levels of noise suppression: 12 dB."""


class CancelsEcho(Protocol):
    """Between the microphone and whoever listens."""

    def reference(self, samples: NDArray[np.float32], at_s: float) -> None:
        """Take float32 [n] that the speaker has pulled, and when the first of them sounds. Never blocks."""
        ...

    def step(self, block: AudioBlock) -> AudioBlock:
        """The block without the echo."""
        ...

    def reset(self) -> None:
        """As before the first block."""
        ...


class Headphones:
    """For a speaker that the microphone does not hear: changes nothing."""

    def reference(self, samples: NDArray[np.float32], at_s: float) -> None:
        """Nothing to do with it."""

    def step(self, block: AudioBlock) -> AudioBlock:
        return block

    def reset(self) -> None:
        """There is nothing to forget."""


class EchoCanceller:
    """WebRTC's AEC3 at 16 kHz, without gain control.

    The callback of the speaker only lays down what it played. The thread that listens finds the reference of each block
    by the clock, 10 ms early; how long the sound takes from there to the microphone the canceller estimates by itself.
    """

    def __init__(self, reference_rate_hz: int = 24_000, *, suppress_noise: bool = False) -> None:
        """
        Args:
            reference_rate_hz: of what the speaker plays.
            suppress_noise: lower steady noise by 12 dB at most.

        Raises:
            MissingPackage: pywebrtc-audio is not installed.
        """
        try:
            from pywebrtc_audio import AudioProcessor
        except ModuleNotFoundError as error:
            raise MissingPackage(
                "Cancelling the echo of the speaker needs the package pywebrtc-audio.",
                why="It is not installed: only the live talk needs it.",
                fix=f"{install_fix('live')}\nWith headphones there is no echo to cancel: --echo headphones.",
            ) from error
        self._processor = AudioProcessor(
            sample_rate=MICROPHONE_RATE_HZ,
            echo_cancellation=True,
            noise_suppression=suppress_noise,
            ns_level=MILD,
            stream_delay_ms=round(LEAD_S * 1000),
        )
        self._rate_hz = reference_rate_hz
        self._laid_down: deque[tuple[NDArray[np.float32], float]] = deque(maxlen=WAITING_PIECES)
        self._timeline = _FarTimeline(reference_rate_hz)

    def reference(self, samples: NDArray[np.float32], at_s: float) -> None:
        """Take float32 [n] that the speaker has pulled, and when the first of them sounds. Never blocks."""
        self._laid_down.append((samples, at_s))

    def step(self, block: AudioBlock) -> AudioBlock:
        """The block without the echo; one thread calls it, with every block."""
        while self._laid_down:
            self._timeline.lay(*self._laid_down.popleft())
        far = self._timeline.take(block.end_s - BLOCK_S + 1 / MICROPHONE_RATE_HZ + LEAD_S)
        return AudioBlock(self._processor.process(block.samples, far), block.end_s)

    def reset(self) -> None:
        """As before the first block."""
        self._processor.reset()
        self._laid_down.clear()
        self._timeline = _FarTimeline(self._rate_hz)


class _FarTimeline:
    """What was played, at 16 kHz, and when."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = StreamResampler(rate_hz, MICROPHONE_RATE_HZ)
        self._samples = np.zeros(0, np.float32)
        self._end_s = 0.0  # when the sample after the last sounds
        self._next = 0  # the sample that is taken next

    def lay(self, samples: NDArray[np.float32], at_s: float) -> None:
        begin_s = at_s - self._resampler.pending_s
        gap_s = begin_s - self._end_s
        if gap_s > TOLERANCE_S:  # nothing was played in between
            silence = round(min(gap_s, KEPT_S) * MICROPHONE_RATE_HZ)
            self._samples = np.concatenate([self._samples, np.zeros(silence, np.float32)])
        elif gap_s < -TOLERANCE_S:  # what was to sound later will not: the device was opened anew
            self._samples = self._samples[: max(self._samples.size + round(gap_s * MICROPHONE_RATE_HZ), 0)]
        self._samples = np.concatenate([self._samples, self._resampler.step(samples)])
        self._end_s = at_s + samples.size / self._rate_hz - self._resampler.pending_s
        surplus = self._samples.size - round(KEPT_S * MICROPHONE_RATE_HZ)
        if surplus > 0:
            self._samples = self._samples[surplus:]
            self._next -= surplus

    def take(self, begin_s: float) -> NDArray[np.float32]:
        """float32 [160]: what sounds from ``begin_s`` on, or follows what was taken before where that is about the
        same; zeros where nothing does."""
        requested = self._samples.size - round((self._end_s - begin_s) * MICROPHONE_RATE_HZ)
        if abs(requested - self._next) > TOLERANCE_S * MICROPHONE_RATE_HZ:
            self._next = requested
        begin, end = (int(np.clip(i, 0, self._samples.size)) for i in (self._next, self._next + BLOCK))
        taken = np.zeros(BLOCK, np.float32)
        taken[begin - self._next : end - self._next] = self._samples[begin:end]
        self._next += BLOCK
        return taken
