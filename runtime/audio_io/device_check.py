"""Listening to a microphone and playing a tone, to say in plain words what is wrong with either."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .device_protocols import BLOCK_S, MICROPHONE_RATE_HZ, AudioInput, AudioOutput

__all__ = ["MicrophoneCheck", "SpeakerCheck", "check_microphone", "check_speaker"]

SILENT_DBFS, QUIET_DBFS, LOUD_DBFS = -75.0, -60.0, -20.0
CLIPPED, MANY_CLIPPED = 0.999, 8
FIRST_S = 5.0
"""How long a device may take to give its first samples."""
TONE_HZ, TONE_S, TONE_PEAK, FADE_S = 440, 1.0, 0.1, 0.05
HEARD_DB = 10.0
TRIES = 4


@dataclass(frozen=True)
class MicrophoneCheck:
    """What a microphone heard.

    Attributes:
        seconds: of sound that came.
        peak_dbfs, rms_dbfs: in dB of full scale; at least -120.
        clipped: samples at full scale.
        dropouts: blocks of 10 ms that were lost.
    """

    name: str
    seconds: float
    peak_dbfs: float
    rms_dbfs: float
    clipped: int
    dropouts: int

    @property
    def problems(self) -> list[str]:
        """What is wrong, a sentence each; empty: nothing."""
        if self.seconds == 0:
            return [f"It gave no sound at all within {FIRST_S:g} s."]
        found = []
        if self.peak_dbfs < SILENT_DBFS:
            found.append("It is silent: muted, not plugged in, or another device is meant.")
        elif self.peak_dbfs < QUIET_DBFS:
            found.append("It is very quiet: turn up its gain.")
        if self.clipped > MANY_CLIPPED:
            found.append("It clips: turn down its gain.")
        elif self.rms_dbfs > LOUD_DBFS:
            found.append("It is very loud all the time: turn down its gain, or find the noise.")
        if self.dropouts:
            found.append(f"It lost {self.dropouts} blocks of 10 ms: the machine is too busy, or the connection is bad.")
        return found


@dataclass(frozen=True)
class SpeakerCheck:
    """How a speaker played a tone.

    Attributes:
        latency_s: from a sample to its sound, as the device says.
        underflows: how often it ran dry.
        echo_db: level of the tone in the microphone against what was played; None where it was not heard.
    """

    name: str
    latency_s: float
    underflows: int
    echo_db: float | None
    played: bool

    @property
    def problems(self) -> list[str]:
        """What is wrong, a sentence each; empty: nothing."""
        if not self.played:
            return ["It did not play the tone in time."]
        if self.underflows:
            return [f"It ran dry {self.underflows} times: the machine is too busy, or the connection is bad."]
        return []


def check_microphone(microphone: AudioInput, seconds: float = 2.0) -> MicrophoneCheck:
    """Listen for some seconds. The microphone is open."""
    samples = _listen(microphone, seconds)
    peak = float(np.abs(samples).max(initial=0))
    return MicrophoneCheck(
        name=microphone.name,
        seconds=samples.size / MICROPHONE_RATE_HZ,
        peak_dbfs=_db(peak),
        rms_dbfs=_db(float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))) if samples.size else -120.0,
        clipped=int(np.count_nonzero(np.abs(samples) >= CLIPPED)),
        dropouts=microphone.dropouts,
    )


def check_speaker(speaker: AudioOutput, microphone: AudioInput | None = None) -> SpeakerCheck:
    """Play a soft tone, and listen whether the microphone hears it. Both are open.

    The tone is played again where the device ran dry: it may still be finding the latency that it can keep.
    """
    for _ in range(TRIES):
        check = _play(speaker, microphone)
        if not check.underflows or not check.played:
            break
    return check


def _play(speaker: AudioOutput, microphone: AudioInput | None) -> SpeakerCheck:
    before = _tone_level(_listen(microphone, 0.5)) if microphone else 0.0
    underflows = speaker.underflows
    tone = _Tone()
    speaker.start(tone)
    give_up_s = time.monotonic() + FIRST_S + TONE_S
    heard = []
    while not tone.is_over and time.monotonic() < give_up_s:
        if microphone is None:
            time.sleep(BLOCK_S)
        elif block := microphone.read(0.1):
            heard.append(block.samples)
    during = _tone_level(np.concatenate(heard)) if heard else 0.0
    audible = during > before * 10 ** (HEARD_DB / 20)
    return SpeakerCheck(
        name=speaker.name,
        latency_s=speaker.latency_s,
        underflows=speaker.underflows - underflows,
        echo_db=round(_db(during / TONE_PEAK), 1) if audible else None,
        played=tone.is_over,
    )


class _Tone:
    """A soft tone that fades in and out."""

    sample_rate_hz = 24_000

    def __init__(self) -> None:
        t = np.arange(round(TONE_S * self.sample_rate_hz)) / self.sample_rate_hz
        fade = np.clip(np.minimum(t, TONE_S - t) / FADE_S, 0, 1)
        self._left = (TONE_PEAK * fade * np.sin(2 * np.pi * TONE_HZ * t)).astype(np.float32)
        self._over_s = np.inf

    @property
    def is_over(self) -> bool:
        """Its last sample has sounded, and reached the microphone."""
        return time.monotonic() > self._over_s + 0.3

    def pull(self, count: int, at_s: float) -> NDArray[np.float32]:
        now, self._left = self._left[:count], self._left[count:]
        if not self._left.size:
            self._over_s = min(self._over_s, at_s)
        return np.pad(now, (0, count - now.size))


def _listen(microphone: AudioInput, seconds: float) -> NDArray[np.float32]:
    """float32 [n]: what is heard; shorter where the device stops."""
    heard = [np.zeros(0, np.float32)]
    wait_s = FIRST_S
    while sum(piece.size for piece in heard) < seconds * MICROPHONE_RATE_HZ and (block := microphone.read(wait_s)):
        heard.append(block.samples)
        wait_s = 1.0
    return np.concatenate(heard)


def _tone_level(samples: NDArray[np.float32]) -> float:
    """The largest amplitude of the tone over a fifth of a second."""
    count = MICROPHONE_RATE_HZ // 5
    windows = samples[: samples.size // count * count].reshape(-1, count)
    wave = np.exp(2j * np.pi * TONE_HZ * np.arange(count) / MICROPHONE_RATE_HZ)
    return float(np.abs(windows @ wave).max(initial=0) * 2 / count)


def _db(amplitude: float) -> float:
    return round(max(20 * float(np.log10(max(amplitude, 1e-6))), -120.0), 1)
