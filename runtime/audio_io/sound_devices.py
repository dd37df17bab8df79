"""Microphone and speaker through PortAudio, at whatever rate and number of channels they have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device_buffers import Capture, Playout
from .device_protocols import BLOCK_S, MICROPHONE_RATE_HZ, AudioBlock, SpeakerSource, Tap
from .portaudio import Direction, SoundDevice, load
from .reconnecting_stream import Latency, ReconnectingStream
from .sample_clock import SampleClock

__all__ = ["SoundMicrophone", "SoundSpeaker"]

Callback = Callable[[NDArray[np.float32], int, Any, Any], None]
MAX_CHANNELS = 8


class SoundMicrophone:
    """The first channel of an input device. The callback only copies; whoever reads changes the rate."""

    def __init__(self, requested: int | str | None = None) -> None:
        """
        Args:
            wanted: index, name or part of a name; None: the default device.
        """
        self._unread = 0
        self._retained = ReconnectingStream(requested, "input", self._start)
        self._capture = Capture(MICROPHONE_RATE_HZ)

    @property
    def name(self) -> str:
        return self._retained.name

    @property
    def lost(self) -> bool:
        return self._retained.lost

    @property
    def dropouts(self) -> int:
        return self._unread + self._retained.gaps

    def read(self, timeout_s: float) -> AudioBlock | None:
        return self._capture.read(timeout_s)

    def __enter__(self) -> SoundMicrophone:
        """
        Raises:
            DeviceFailed: there is no such device, or it refuses.
            MissingPackage: sounddevice or PortAudio is not installed.
        """
        self._unread = 0
        self._retained.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._retained.close()

    def _start(self, device: SoundDevice, latency: Latency) -> Any:
        return _start_stream(device, "input", latency, self._callback)

    def _callback(self, rate_hz: int) -> Callback:
        capture = self._capture = Capture(rate_hz)

        def hear(heard: NDArray[np.float32], count: int, when: Any, status: Any) -> None:
            self._retained.called(gap=bool(status.input_overflow))
            delay_s = when.currentTime - when.inputBufferAdcTime
            if not 0 <= delay_s < 1:  # not every driver knows
                delay_s = count / rate_hz
            self._unread += capture.hear(heard[:, 0].copy(), time.monotonic() - delay_s)

        return hear


class SoundSpeaker:
    """All channels of an output device, the same on each.

    While the device is gone nothing is pulled: what has been pulled counts as heard, and nobody could hear it.
    """

    def __init__(self, requested: int | str | None = None) -> None:
        """
        Args:
            wanted: index, name or part of a name; None: the default device.
        """
        self.latency_s = 0.0
        self._retained = ReconnectingStream(requested, "output", self._start)
        self._playing: tuple[SpeakerSource, Tap | None] | None = None
        self._rate_hz = 0
        self._playout: Playout | None = None

    @property
    def name(self) -> str:
        return self._retained.name

    @property
    def lost(self) -> bool:
        return self._retained.lost

    @property
    def underflows(self) -> int:
        return self._retained.gaps

    def start(self, source: SpeakerSource, tap: Tap | None = None) -> None:
        self._playing = (source, tap)
        if self._rate_hz:
            self._playout = Playout(source, tap, self._rate_hz)

    def __enter__(self) -> SoundSpeaker:
        """
        Raises:
            DeviceFailed: there is no such device, or it refuses.
            MissingPackage: sounddevice or PortAudio is not installed.
        """
        self._retained.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._retained.close()
        self._playing, self._playout, self._rate_hz = None, None, 0

    def _start(self, device: SoundDevice, latency: Latency) -> Any:
        return _start_stream(device, "output", latency, self._callback)

    def _callback(self, rate_hz: int) -> Callback:
        self._rate_hz = rate_hz
        self._playout = Playout(*self._playing, rate_hz) if self._playing else None
        clock = SampleClock(rate_hz)

        def play(played: NDArray[np.float32], count: int, when: Any, status: Any) -> None:
            self._retained.called(gap=bool(status.output_underflow))
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


def _settings(device: SoundDevice, direction: Direction) -> Iterator[tuple[int, int]]:
    """Rates and channels to try: what the device says of itself first, since a bare card takes nothing else."""
    maximum = device.channels(direction)
    wide = 1 if direction == "input" else maximum if maximum <= MAX_CHANNELS else 2
    rates = dict.fromkeys((device.rate_hz, 48_000, 44_100, 16_000))
    return ((rate_hz, channels) for channels in dict.fromkeys((wide, min(2, maximum), maximum, 1)) for rate_hz in rates)


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
