"""Microphone and speaker through PortAudio, at whatever rate and number of channels they have."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .audio import BLOCK, BLOCK_S, MICROPHONE_RATE_HZ, AudioBlock, SpeakerSource, Tap
from .kept_stream import KeptStream, Latency
from .portaudio import Direction, SoundDevice, load
from .resampling import StreamResampler
from .sample_clock import SampleClock

__all__ = ["SoundMicrophone", "SoundSpeaker"]

WAITING_S = 5.0
"""Sound of the microphone that waits to be read, at most."""
Callback = Callable[[NDArray[np.float32], int, Any, Any], None]
MOST_CHANNELS = 8
PIECE_S = 0.005
"""What the speaker pulls at a time: more would be heard later."""


class SoundMicrophone:
    """The first channel of an input device. The callback only copies; whoever reads changes the rate."""

    def __init__(self, wanted: int | str | None = None) -> None:
        """
        Args:
            wanted: index, name or part of a name; None: the default device.
        """
        self._unread = 0
        self._kept = KeptStream(wanted, "input", self._start)
        self._capture = _Capture(MICROPHONE_RATE_HZ)

    @property
    def name(self) -> str:
        return self._kept.name

    @property
    def lost(self) -> bool:
        return self._kept.lost

    @property
    def dropouts(self) -> int:
        return self._unread + self._kept.gaps

    def read(self, timeout_s: float) -> AudioBlock | None:
        return self._capture.read(timeout_s)

    def __enter__(self) -> SoundMicrophone:
        """
        Raises:
            DeviceFailed: there is no such device, or it refuses.
            MissingPackage: sounddevice or PortAudio is not installed.
        """
        self._unread = 0
        self._kept.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.close()

    def _start(self, device: SoundDevice, latency: Latency) -> Any:
        return _start_stream(device, "input", latency, self._callback)

    def _callback(self, rate_hz: int) -> Callback:
        capture = self._capture = _Capture(rate_hz)

        def hear(heard: NDArray[np.float32], count: int, when: Any, status: Any) -> None:
            self._kept.called(gap=bool(status.input_overflow))
            delay_s = when.currentTime - when.inputBufferAdcTime
            if not 0 <= delay_s < 1:  # not every driver knows
                delay_s = count / rate_hz
            self._unread += capture.hear(heard[:, 0].copy(), time.monotonic() - delay_s)

        return hear


class SoundSpeaker:
    """All channels of an output device, the same on each.

    While the device is gone nothing is pulled: what has been pulled counts as heard, and nobody could hear it.
    """

    def __init__(self, wanted: int | str | None = None) -> None:
        """
        Args:
            wanted: index, name or part of a name; None: the default device.
        """
        self.latency_s = 0.0
        self._kept = KeptStream(wanted, "output", self._start)
        self._playing: tuple[SpeakerSource, Tap | None] | None = None
        self._rate_hz = 0
        self._playout: _Playout | None = None

    @property
    def name(self) -> str:
        return self._kept.name

    @property
    def lost(self) -> bool:
        return self._kept.lost

    @property
    def underflows(self) -> int:
        return self._kept.gaps

    def start(self, source: SpeakerSource, tap: Tap | None = None) -> None:
        self._playing = (source, tap)
        if self._rate_hz:
            self._playout = _Playout(source, tap, self._rate_hz)

    def __enter__(self) -> SoundSpeaker:
        """
        Raises:
            DeviceFailed: there is no such device, or it refuses.
            MissingPackage: sounddevice or PortAudio is not installed.
        """
        self._kept.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.close()
        self._playing, self._playout, self._rate_hz = None, None, 0

    def _start(self, device: SoundDevice, latency: Latency) -> Any:
        return _start_stream(device, "output", latency, self._callback)

    def _callback(self, rate_hz: int) -> Callback:
        self._rate_hz = rate_hz
        self._playout = _Playout(*self._playing, rate_hz) if self._playing else None
        clock = SampleClock(rate_hz)

        def play(played: NDArray[np.float32], count: int, when: Any, status: Any) -> None:
            self._kept.called(gap=bool(status.output_underflow))
            now_s = time.monotonic()
            delay_s = when.outputBufferDacTime - when.currentTime
            first_s = clock.step(count, now_s + (delay_s if 0 <= delay_s < 2 else 0.0))
            self.latency_s = first_s - now_s
            playout = self._playout
            if playout is None:
                played.fill(0)
            else:
                played[:] = playout.step(count, first_s)[:, None]

        return play


class _Capture:
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


class _Playout:
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


def _settings(device: SoundDevice, direction: Direction) -> Iterator[tuple[int, int]]:
    """Rates and channels to try: what the device says of itself first, since a bare card takes nothing else."""
    most = device.channels(direction)
    wide = 1 if direction == "input" else most if most <= MOST_CHANNELS else 2
    rates = dict.fromkeys((device.rate_hz, 48_000, 44_100, 16_000))
    return ((rate_hz, channels) for channels in dict.fromkeys((wide, min(2, most), most, 1)) for rate_hz in rates)


def _start_stream(
    device: SoundDevice, direction: Direction, latency: Latency, callback: Callable[[int], Callback]
) -> Any:
    """A running stream with the first settings that the device takes; ``callback`` is made for each rate."""
    sounddevice = load()
    kind = sounddevice.InputStream if direction == "input" else sounddevice.OutputStream
    refused: list[Exception] = []
    for rate_hz, channels in _settings(device, direction):
        stream = None
        try:
            stream = kind(
                device=device.index,
                samplerate=rate_hz,
                channels=channels,
                dtype="float32",
                blocksize=round(rate_hz * BLOCK_S),
                latency=latency,
                callback=callback(rate_hz),
            )
            stream.start()
            return stream
        except sounddevice.PortAudioError as error:
            refused.append(error)
            if stream is not None:
                stream.close(ignore_errors=True)
    raise refused[0]  # what it says of its own settings tells most
