"""Questions aloud: espeak-ng with many voices, rates and pitches, in rooms, at 16 kHz."""

from __future__ import annotations

import io
import random
import subprocess
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from vita_edge.runtime.audio_io.sound import resample

__all__ = ["FOREIGN", "RATE_HZ", "Voice", "held_out_voice", "random_voice", "room", "say", "with_silence"]

RATE_HZ = 16000
ACCENTS = (
    *("en-us", "en-us", "en-us", "en-gb", "en-gb", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-rp"),
    *("en-gb-x-gbclan", "en-gb-x-gbcwmd"),
)
VARIANTS = ("", "", "+m1", "+m2", "+m3", "+m4", "+m6", "+m8", "+f1", "+f2", "+f4")
HELD_OUT_VARIANTS = ("+m5", "+m7", "+f3", "+f5")
"""Spoken only in tests."""
FOREIGN = ("de", "fr-fr", "es", "it", "nl", "pl", "sv", "pt")


@dataclass(frozen=True)
class Voice:
    name: str
    words_a_minute: int
    pitch: int


def random_voice(rng: random.Random) -> Voice:
    return Voice(rng.choice(ACCENTS) + rng.choice(VARIANTS), rng.randint(120, 200), rng.randint(25, 75))


def held_out_voice(rng: random.Random) -> Voice:
    return Voice(rng.choice(ACCENTS[:6]) + rng.choice(HELD_OUT_VARIANTS), rng.randint(125, 190), rng.randint(30, 70))


def say(text: str, voice: Voice) -> NDArray[np.float32]:
    """float32 [n] at 16 kHz, as loud as espeak-ng makes it, without the silence at its ends."""
    command = ["espeak-ng", "--stdout", "-v", voice.name, "-s", str(voice.words_a_minute), "-p", str(voice.pitch), text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    # a stream does not know its length: its header claims two gigabytes
    samples = np.frombuffer(wav[44:], "<i2").astype(np.float32) / 32768
    rate = soundfile.info(io.BytesIO(wav)).samplerate
    samples = resample(samples, rate, RATE_HZ)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def with_silence(samples: NDArray[np.float32], rng: random.Random) -> NDArray[np.float32]:
    """Some silence before and after, as a microphone's endpoint detector leaves it."""
    before, after = (int(rng.uniform(0.08, 0.5) * RATE_HZ) for _ in range(2))
    return np.pad(samples, (before, after))


def room(samples: NDArray[np.float32], rng: random.Random) -> NDArray[np.float32]:
    """Echo of a small room: an exponentially decaying tail of noise."""
    noise = np.random.default_rng(rng.getrandbits(63))
    tail = int(rng.uniform(0.08, 0.3) * RATE_HZ)
    response = noise.normal(0, 1, tail) * np.exp(-6.9 * np.arange(tail) / tail)
    response *= rng.uniform(0.15, 0.6) / np.linalg.norm(response)
    response[0] = 1
    n = len(samples) + tail
    size = 1 << (n - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size))[: len(samples)]
    return wet.astype(np.float32)
