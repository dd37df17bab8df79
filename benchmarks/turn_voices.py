"""Voices for the labelled set of turns, each a command or a package that makes speech without a network.

Voices for tuning and voices for reporting are of different speakers. What is not installed is left out.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from vita_edge.runtime.audio_io.sound import resample

__all__ = ["RATE_HZ", "Voice", "installed_voices"]

RATE_HZ = 16_000
Speak = Callable[[str, int], NDArray[np.float32]]
"""A text and a seed to float32 [n] at RATE_HZ."""


@dataclass(frozen=True)
class Voice:
    """One speaker."""

    name: str
    split: str
    """``tuning`` or ``reporting``."""
    natural: bool
    """Of recorded speech, by a statistical or neural model; the others buzz."""
    speak: Speak


def installed_voices() -> list[Voice]:
    """Voices that this machine has, in a fixed order."""
    voices: list[Voice] = []
    if shutil.which("espeak-ng"):
        tuned = ("en-us", "en-gb", "en-us+f3", "en-us+m3", "en-gb-scotland+f4")
        voices += [Voice(f"espeak-{name}", "tuning", False, _espeak(name)) for name in tuned]
        voices += [
            Voice(f"espeak-{name}", "reporting", False, _espeak(name)) for name in ("en-gb-x-rp+f2", "en-us+klatt2")
        ]
    if shutil.which("flite"):
        voices += [Voice(f"flite-{name}", "tuning", name != "kal16", _flite(name)) for name in ("awb", "slt", "kal16")]
        voices.append(Voice("flite-rms", "reporting", True, _flite("rms")))
    if shutil.which("text2wave"):
        for name, split in (("cmu_us_slt_arctic_hts", "tuning"), ("ked_diphone", "reporting")):
            if list(Path("/usr/share/festival/voices").glob(f"*/{name}")):
                voices.append(Voice(f"festival-{name}", split, name.endswith("hts"), _festival(name)))
    if find_spec("hibari"):
        voices.append(Voice("hibari-heart", "reporting", True, _hibari()))
    return voices


def _espeak(voice: str) -> Speak:
    def speak(text: str, seed: int) -> NDArray[np.float32]:
        words_a_minute = 150 + seed % 4 * 12
        command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "--stdout", text]
        return _decoded(subprocess.run(command, check=True, capture_output=True).stdout)

    return speak


def _flite(voice: str) -> Speak:
    def speak(text: str, seed: int) -> NDArray[np.float32]:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            stretch = f"duration_stretch={0.95 + seed % 4 * 0.06:.2f}"
            command = ["flite", "-voice", voice, "--setf", stretch, "-t", text, "-o", file.name]
            subprocess.run(command, check=True, capture_output=True)
            return _decoded(Path(file.name).read_bytes())

    return speak


def _festival(voice: str) -> Speak:
    def speak(text: str, seed: int) -> NDArray[np.float32]:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            command = ["text2wave", "-eval", f"(voice_{voice})", "-o", file.name]
            subprocess.run(command, input=text.encode(), check=True, capture_output=True)
            return _decoded(Path(file.name).read_bytes())

    return speak


def _hibari() -> Speak:
    made: list[Any] = []

    def speak(text: str, seed: int) -> NDArray[np.float32]:
        if not made:
            from hibari import Hibari

            made.append(Hibari("heart"))
        samples = np.asarray(made[0](text, 0.9 + seed % 4 * 0.08, seed), np.float32)
        return resample(samples, 24_000, RATE_HZ)

    return speak


def _decoded(wav: bytes) -> NDArray[np.float32]:
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
    return resample(np.ascontiguousarray(samples[:, 0]), rate, RATE_HZ)
