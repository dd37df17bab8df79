"""A program's own arrays in place of devices: blocks of audio in, PCM out, frames from wherever."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..audio_io.device_buffers import Capture, Playout
from ..audio_io.device_protocols import AudioBlock, SpeakerSource, Tap
from ..audio_io.pcm import float_samples, to_pcm16
from ..encoders.camera import Frame
from ..encoders.vision_frontend import read_image

__all__ = ["NewestFrame", "PacedOutput", "PushInput"]


LOG = logging.getLogger("vita_edge")


class PushInput:
    """An audio input that hears what is pushed: from a driver's callback, a socket, a topic.

    Args:
        sample_rate_hz: of the blocks.
    """

    lost = False

    def __init__(self, sample_rate_hz: int, name: str = "pushed audio") -> None:
        self.name = name
        self.sample_rate_hz = sample_rate_hz
        self.dropouts = 0
        self._capture = Capture(sample_rate_hz)

    def push(self, block: ArrayLike, end_s: float | None = None) -> None:
        """Take int16 [n] or floats [n] with full scale 1.0, mono; from any one thread.

        Args:
            end_s: when the last sample was captured, in seconds of ``time.monotonic()``; None is now.

        Raises:
            BadInput: it is no audio.
        """
        samples = float_samples(block, self.sample_rate_hz)
        end_s = time.monotonic() if end_s is None else end_s
        self.dropouts += self._capture.hear(samples, end_s - samples.size / self.sample_rate_hz)

    def read(self, timeout_s: float) -> AudioBlock | None:
        return self._capture.read(timeout_s)

    def __enter__(self) -> PushInput:
        self._capture = Capture(self.sample_rate_hz)
        self.dropouts = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to give back."""


class PacedOutput:
    """An audio output that hands PCM to ``play`` in real time, block by block, zeros where it is silent.

    Args:
        play: is given int16 [n], mono, on a thread of the output; should return within a block.
        sample_rate_hz: of what it is given.
        latency_s: from the call of ``play`` to the sound, as far as it is known.
    """

    def __init__(
        self,
        play: Callable[[NDArray[np.int16]], None],
        sample_rate_hz: int = 24_000,
        *,
        block_s: float = 0.02,
        latency_s: float = 0.02,
        name: str = "own output",
    ) -> None:
        self.name, self.latency_s = name, latency_s
        self.underflows = 0
        self.lost = False
        """``play`` raises; the clock goes on meanwhile, as it does where a device is gone."""
        self._play, self._rate_hz, self._block_s = play, sample_rate_hz, block_s
        self._playout: Playout | None = None
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, source: SpeakerSource, tap: Tap | None = None) -> None:
        self._playout = Playout(source, tap, self._rate_hz)

    def __enter__(self) -> PacedOutput:
        self._leaving.clear()
        self.underflows = 0
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if self._thread:
            self._thread.join()
        self._playout = None

    def _run(self) -> None:
        count = round(self._block_s * self._rate_hz)
        next_s = time.monotonic()
        while not self._leaving.wait(max(next_s - time.monotonic(), 0)):
            late_s = time.monotonic() - next_s
            if late_s > 1:  # asleep, not behind
                next_s += late_s
                self.underflows += 1
            if (playout := self._playout) is not None:
                pcm = to_pcm16(playout.step(count, next_s + self.latency_s))
                try:
                    self._play(pcm)
                except Exception:
                    if not self.lost:
                        LOG.exception("What plays the audio of %s raised an error.", self.name)
                    self.lost = True
                    self.underflows += 1
                else:
                    self.lost = False
            next_s += count / self._rate_hz


class NewestFrame:
    """A frame source that gives the newest frame that was put there."""

    lost = False

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._number = 0

    def put(self, pixels: NDArray[np.uint8], at_s: float | None = None) -> None:
        """Take uint8 [H, W, 3] RGB; gray and RGBA are converted. From any one thread.

        Raises:
            BadInput: it is no picture.
        """
        pixels = read_image(pixels)
        self._frame = Frame(pixels, time.monotonic() if at_s is None else at_s, self._number)
        self._number += 1

    def newest(self) -> Frame | None:
        return self._frame
