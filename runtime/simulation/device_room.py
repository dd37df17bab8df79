"""A real room: recorded questions through the loudspeaker, and both they and the replies timed at the microphone.

What the microphone heard is searched for what was played (a matched filter), so question and reply are read off one
clock: the samples of the microphone. Latencies of devices and of the air are in both, and fall out.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import DeviceFailed

from ..audio_io.device_protocols import MICROPHONE_RATE_HZ, AudioBlock, AudioInput, AudioOutput, SpeakerSource, Tap
from ..audio_io.sound import Sound, resample
from .room import RoomUtterance

__all__ = ["AudioPath", "DeviceRoom"]

SEARCHED_S = (-0.1, 1.5)
"""Where a sound is searched for, after the moment for which it was played."""
REPLY_S, LOUD = 0.4, 0.003
"""Of a reply its beginning is searched for, from its first sample that is as loud."""
WHITENED = 0.7
"""Power to which the loudness of each frequency is taken out of the match."""
CLEAR = 6.0
"""Height of the match above the rest, in standard deviations, from which a sound was found."""
CHIRP_S, CHIRP_HZ = 0.4, (300.0, 5000.0)
QUESTION_PEAK = 0.5
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class AudioPath:
    """From the loudspeaker to the microphone."""

    delay_s: float
    """From the moment for which the driver announced a sound to its being heard."""
    clear: float
    """Height of the match, in standard deviations of the rest."""


class DeviceRoom:
    """Stands where a simulated room stands. Its ``microphone`` and ``speaker`` are opened by the talk.

    Args:
        microphone, speaker: devices, not opened.
        keep_s: how much of what was heard and played is kept.
    """

    def __init__(self, microphone: AudioInput, speaker: AudioOutput, *, keep_s: float = 180.0) -> None:
        self._blocks: deque[AudioBlock] = deque(maxlen=round(100 * keep_s))
        self._questions: list[tuple[float, Samples]] = []
        self._played: deque[tuple[float, Samples]] = deque(maxlen=round(100 * keep_s))
        self.microphone = _Tapped(microphone, self._blocks)
        self.speaker = _Mixed(speaker, self._questions, self._played)

    def check(self) -> AudioPath:
        """Play a chirp, and find it.

        Raises:
            DeviceFailed: the microphone does not hear the loudspeaker.
        """
        chirp = Sound(_chirp(), MICROPHONE_RATE_HZ)
        with self.microphone, self.speaker:
            self.speaker.start(_Silent(24_000))
            at_s = time.monotonic() + 0.5
            self.say(chirp, at_s)
            while time.monotonic() < at_s + CHIRP_S + SEARCHED_S[1] + 0.3:
                self.microphone.read(0.05)
        found_s, clear = self._find(chirp.heard_channel, at_s)
        if clear < CLEAR:
            raise DeviceFailed(
                "The microphone does not hear the loudspeaker.",
                why=f"A chirp was played, and what was heard is hardly like it ({clear:.1f}; {CLEAR:g} is enough).",
                fix="Turn the volume up, choose devices with --input-device and --output-device, or connect a cable.",
            )
        return AudioPath(found_s - at_s, clear)

    def say(self, sound: Sound, at_s: float | None = None) -> RoomUtterance:
        """Play the sound through the loudspeaker at ``at_s`` or at once; when it would be heard without any latency."""
        samples = sound.heard_channel
        samples = samples / max(float(np.abs(samples).max()), 1e-6) * QUESTION_PEAK
        begin_s = time.monotonic() + 0.1 if at_s is None else at_s
        rate_hz = self.speaker.rate_hz
        self._questions.append((begin_s, resample(samples.astype(np.float32), sound.sample_rate_hz, rate_hz)))
        return RoomUtterance(begin_s, begin_s + sound.seconds)

    def located(self, utterance: RoomUtterance, sound: Sound) -> RoomUtterance:
        """When the microphone heard what was said.

        Raises:
            DeviceFailed: it was not heard.
        """
        requested = resample(sound.heard_channel, sound.sample_rate_hz, MICROPHONE_RATE_HZ)
        found_s, clear = self._find(requested, utterance.begin_s)
        if clear < CLEAR:
            raise DeviceFailed(
                "The microphone did not hear the question.",
                why=f"What it heard is hardly like it ({clear:.1f}; {CLEAR:g} is enough).",
                fix="Turn the volume up, or make the room quieter.",
            )
        return RoomUtterance(found_s, found_s + sound.seconds)

    def first_sound_after(self, t_s: float) -> float | None:
        """When the microphone heard the first sound of a reply that was played after ``t_s``; None: there was none."""
        played = [(at_s, samples) for at_s, samples in list(self._played) if at_s > t_s - 1.0]
        for number, (at_s, samples) in enumerate(played):
            loud = np.flatnonzero(np.abs(samples) >= LOUD)
            if not len(loud):
                continue
            rate_hz = self.speaker.rate_hz
            begin = np.concatenate([block for _, block in played[number:]])[int(loud[0]) : round(REPLY_S * rate_hz)]
            first_s = at_s + float(loud[0]) / rate_hz
            found_s, clear = self._find(resample(begin, rate_hz, MICROPHONE_RATE_HZ), first_s)
            return found_s if clear >= CLEAR else None
        return None

    def _find(self, requested: Samples, expected_s: float) -> tuple[float, float]:
        """When ``wanted`` (16 kHz) was heard, and how clearly."""
        blocks = list(self._blocks)
        length_s = requested.size / MICROPHONE_RATE_HZ
        begin_s, end_s = expected_s + SEARCHED_S[0], expected_s + SEARCHED_S[1] + length_s
        blocks = [block for block in blocks if begin_s <= block.end_s <= end_s]
        if not blocks or len(blocks) * 160 < requested.size:
            return expected_s, 0.0
        heard = np.concatenate([block.samples for block in blocks])
        size = 1 << (heard.size + requested.size).bit_length()
        spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(requested, size))
        spectrum /= (np.abs(spectrum) + 1e-9) ** WHITENED  # a voice is like itself a period later: sharpen the match
        match = np.fft.irfft(spectrum, size)[: heard.size - requested.size + 1]
        place = int(np.argmax(np.abs(match)))
        others = np.delete(match, np.s_[max(place - 160, 0) : place + 160])
        clear = float(np.abs(match[place]) / (others.std() + 1e-12)) if others.size > 160 else 0.0
        first_s = blocks[0].end_s - (blocks[0].samples.size - 1) / MICROPHONE_RATE_HZ
        return first_s + place / MICROPHONE_RATE_HZ, clear

    def __enter__(self) -> DeviceRoom:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._questions.clear()


class _Tapped:
    """A microphone of which everything that is read is kept."""

    def __init__(self, microphone: AudioInput, blocks: deque[AudioBlock]) -> None:
        self._microphone, self._blocks = microphone, blocks

    @property
    def name(self) -> str:
        return self._microphone.name

    @property
    def dropouts(self) -> int:
        return self._microphone.dropouts

    @property
    def lost(self) -> bool:
        return self._microphone.lost

    def read(self, timeout_s: float) -> AudioBlock | None:
        block = self._microphone.read(timeout_s)
        if block is not None:
            self._blocks.append(block)
        return block

    def __enter__(self) -> _Tapped:
        self._microphone.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._microphone.__exit__(kind, error, trace)


class _Mixed:
    """A speaker that plays questions over whatever else it plays."""

    def __init__(
        self, speaker: AudioOutput, questions: list[tuple[float, Samples]], played: deque[tuple[float, Samples]]
    ) -> None:
        self._speaker, self._questions, self._played = speaker, questions, played
        self.rate_hz = 24_000

    @property
    def name(self) -> str:
        return self._speaker.name

    @property
    def latency_s(self) -> float:
        return self._speaker.latency_s

    @property
    def underflows(self) -> int:
        return self._speaker.underflows

    @property
    def lost(self) -> bool:
        return self._speaker.lost

    def start(self, source: SpeakerSource, tap: Tap | None = None) -> None:
        self.rate_hz = source.sample_rate_hz
        self._speaker.start(_MixedSource(source, self._questions, self._played), tap)

    def __enter__(self) -> _Mixed:
        self._speaker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._speaker.__exit__(kind, error, trace)


class _MixedSource:
    def __init__(
        self, source: SpeakerSource, questions: list[tuple[float, Samples]], played: deque[tuple[float, Samples]]
    ) -> None:
        self._source, self._questions, self._played = source, questions, played
        self.sample_rate_hz = source.sample_rate_hz
        self._next: dict[int, int] = {}
        """Question → its next sample: once it has begun, it goes on without a gap, however the clock is read."""

    def pull(self, count: int, at_s: float) -> Samples:
        samples = self._source.pull(count, at_s)
        self._played.append((at_s, samples))
        mixed = samples.copy()
        for number, (begin_s, question) in enumerate(list(self._questions)):
            first = self._next.get(number, round((at_s - begin_s) * self.sample_rate_hz))
            if first <= -count:
                continue
            part = question[max(first, 0) : max(first + count, 0)]
            offset = max(-first, 0)
            mixed[offset : offset + part.size] += part
            self._next[number] = first + count
        return mixed


class _Silent:
    def __init__(self, rate_hz: int) -> None:
        self.sample_rate_hz = rate_hz

    def pull(self, count: int, at_s: float) -> Samples:
        return np.zeros(count, np.float32)


def _chirp() -> Samples:
    """A tone that rises through the band that every device has, soft at both ends."""
    t = np.arange(round(CHIRP_S * MICROPHONE_RATE_HZ)) / MICROPHONE_RATE_HZ
    low, high = CHIRP_HZ
    phase = 2 * np.pi * low * CHIRP_S / np.log(high / low) * ((high / low) ** (t / CHIRP_S) - 1)
    return np.asarray(np.sin(phase) * np.sin(np.pi * t / CHIRP_S) ** 0.5, np.float32)
