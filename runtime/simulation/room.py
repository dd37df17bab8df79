"""A simulated room for benchmarks and tests: a microphone, a speaker and what is between them, without hardware."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..audio_io.device_protocols import BLOCK, BLOCK_S, MICROPHONE_RATE_HZ
from ..audio_io.sound import Sound, resample, write_wav
from .echo_path import PULLED, SPEAKER_RATE_HZ, EchoPath
from .room_devices import RoomMicrophone, RoomSpeaker

__all__ = ["Room", "RoomUtterance"]


@dataclass(frozen=True)
class RoomUtterance:
    """A sound in the room: when its first and its last sample reach the microphone."""

    begin_s: float
    end_s: float


class Room:
    """A room that lives in steps of 10 ms.

    While it is entered (``with Room() as room:``) a thread steps it in real time: late steps are caught up, so that it
    never drifts from ``time.monotonic()``. Without, the caller steps it with :meth:`tick`, and the same calls give the
    same samples and times.
    """

    def __init__(
        self,
        *,
        echo_db: float | None = None,
        noise_dbfs: float | None = -70.0,
        speaker_latency_s: float = 0.02,
        echo_delay_s: float = 0.04,
        keep_s: float = 120.0,
        seed: int = 0,
        start_s: float | None = None,
    ) -> None:
        """
        Args:
            echo_db: level of what the microphone hears of the speaker, against what is played; None: headphones.
            noise_dbfs: level of the white noise in the room (RMS); None: silence.
            speaker_latency_s: from the pull of a sample to its sound.
            echo_delay_s: from the sound of a sample to the microphone.
            keep_s: how much of what the speaker played is kept.
            seed: of the noise and of the walls.
            start_s: the time at which a room that is stepped by hand begins; now, without it.
        """
        self._origin_s = time.monotonic() if start_s is None else start_s
        self._ticks = 0
        self._speaker_latency_s = speaker_latency_s
        self._noise = None if noise_dbfs is None else 10 ** (noise_dbfs / 20)
        self._random = np.random.default_rng(seed)
        # a block is captured during the 10 ms before the step in which it is delivered, hence one more block of delay
        delay_s = BLOCK_S + speaker_latency_s + echo_delay_s
        self._echo = None if echo_db is None else EchoPath(echo_db, delay_s, seed)
        self._said: list[tuple[int, NDArray[np.float32]]] = []
        self._heard: deque[NDArray[np.float32]] = deque(maxlen=round(keep_s / BLOCK_S))
        self._heard_ticks = 0
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.microphone = RoomMicrophone()
        self.speaker = RoomSpeaker(speaker_latency_s)

    @property
    def now_s(self) -> float:
        """The time up to which the room has lived."""
        return self._origin_s + self._ticks * BLOCK_S

    def tick(self) -> None:
        """Live for 10 ms: the speaker pulls and plays, the microphone hears."""
        with self._lock:
            self._ticks += 1
            first = (self._ticks - 1) * BLOCK
            sounds = [(start, samples) for start, samples in self._said if start < first + BLOCK]
            self._said = [(start, samples) for start, samples in self._said if start + samples.size > first + BLOCK]
        samples = np.zeros(BLOCK, np.float32)
        for start, sound in sounds:
            begin, end = max(start, first), min(start + sound.size, first + BLOCK)
            samples[begin - first : end - first] += sound[begin - start : end - start]
        if self._noise:
            samples += self._random.normal(0, self._noise, BLOCK).astype(np.float32)
        played = self.speaker.play(PULLED, self.now_s + self._speaker_latency_s)
        if self._echo:
            samples += self._echo.step(played)
        with self._lock:
            self._heard.append(played)
            self._heard_ticks = self._ticks
        self.microphone.hear(np.clip(samples, -1, 1), self._captured_s(first + BLOCK - 1))

    def say(self, sound: Sound, at_s: float | None = None) -> RoomUtterance:
        """Let the microphone hear the first channel of ``sound``, at ``at_s`` or as soon as it can."""
        samples = resample(sound.heard_channel, sound.sample_rate_hz, MICROPHONE_RATE_HZ)
        with self._lock:
            start = self._ticks * BLOCK
            if at_s is not None:
                start = max(start, round((at_s - self._origin_s) * MICROPHONE_RATE_HZ))
            self._said.append((start, samples))
        return RoomUtterance(self._captured_s(start), self._captured_s(start + samples.size - 1))

    def located(self, utterance: RoomUtterance, sound: Sound) -> RoomUtterance:
        """When the microphone heard what was said: here that is known before."""
        return utterance

    def heard(self, from_s: float = -np.inf, to_s: float = np.inf) -> tuple[NDArray[np.float32], float]:
        """What the speaker played between two times, as far as it is kept.

        Returns:
            float32 [n] at 24 kHz, and when the first of them sounded.
        """
        with self._lock:
            retained = np.concatenate(self._heard) if self._heard else np.zeros(0, np.float32)
            end_s = self._origin_s + (self._heard_ticks + 1) * BLOCK_S + self._speaker_latency_s
            first_s = end_s - retained.size / SPEAKER_RATE_HZ
        begin, end = (int(np.clip(np.ceil((t - first_s) * SPEAKER_RATE_HZ), 0, retained.size)) for t in (from_s, to_s))
        return retained[begin:end], first_s + begin / SPEAKER_RATE_HZ

    def first_sound_after(self, t_s: float, threshold: float = 0.003) -> float | None:
        """When the first sample from ``t_s`` on sounded whose magnitude is ``threshold`` or more; None: not yet."""
        samples, first_s = self.heard(from_s=t_s)
        loud = np.flatnonzero(np.abs(samples) >= threshold)
        return first_s + float(loud[0]) / SPEAKER_RATE_HZ if loud.size else None

    def last_sound_before(self, t_s: float, threshold: float = 0.003) -> float | None:
        """When the last such sample before ``t_s`` sounded; None: there is none."""
        samples, first_s = self.heard(to_s=t_s)
        loud = np.flatnonzero(np.abs(samples) >= threshold)
        return first_s + float(loud[-1]) / SPEAKER_RATE_HZ if loud.size else None

    def write_heard(self, path: str | Path) -> None:
        """Write what is kept of the speaker to a WAV file."""
        write_wav(path, self.heard()[0], SPEAKER_RATE_HZ)

    def __enter__(self) -> Room:
        self._origin_s = time.monotonic() - self._ticks * BLOCK_S
        self._leaving.clear()
        self._thread = threading.Thread(target=self._live, name="room", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if self._thread:
            self._thread.join()
        if self._error:
            raise self._error

    def _live(self) -> None:
        try:
            while not self._leaving.wait(max(self.now_s + BLOCK_S - time.monotonic(), 0)):
                self.tick()
                if time.monotonic() > self.now_s + self._speaker_latency_s:  # a real device would have run dry
                    self.speaker.underflows += 1
        except BaseException as error:  # of the source or the tap: told by whoever leaves the room
            self._error = error

    def _captured_s(self, sample: int) -> float:
        return self._origin_s + sample / MICROPHONE_RATE_HZ
