"""Features of sounds as the model is trained with: other tracts, paces, microphones, levels and noise at every draw."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stage_sounds import SETS, read_sounds, set_name
from voices import TRAINING

__all__ = ["Sounds", "padded", "striped"]

DB = np.log(10) / 10
"""A decibel in the natural logarithm of a power, which the filter bank's values are."""
BINS = 80
FLOOR = np.float32(-15.942385)
OF_NOBODY = ("foreign", "noise")
HEAVY_NOISE_DB, LIGHT_NOISE_DB = 7, 36


class Sounds:
    """Sets of features, and batches of them."""

    def __init__(self, *kinds: str, voices: Sequence[str] = TRAINING) -> None:
        """Of ``kinds`` as in ``SETS``, in ``voices`` where they are spoken."""
        self.texts: list[str] = []
        """What is meant; empty where nothing is."""
        self.said: list[str] = []
        self.features: list[np.ndarray] = []
        self.of_kind: dict[str, list[int]] = {}
        self.of_voice: dict[tuple[str, str], list[int]] = {}
        for kind, voice in SETS:
            if kind in kinds and voice in (*voices, *OF_NOBODY):
                self._add(kind, voice)
        self.lengths = [len(f) for f in self.features]
        self.backgrounds = read_sounds(set_name("background", "background"))[2]
        self.by_text: dict[str, list[int]] = {}
        for i in self.of_kind.get("questions", []):
            self.by_text.setdefault(self.texts[i], []).append(i)

    def _add(self, kind: str, voice: str) -> None:
        texts, said, features = read_sounds(set_name(kind, voice))
        numbers = range(len(self.texts), len(self.texts) + len(texts))
        self.texts += texts
        self.said += said
        self.features += features
        self.of_voice[kind, voice] = list(numbers)
        self.of_kind.setdefault("foreign" if voice == "foreign" else kind, []).extend(numbers)

    def heard(self, index: int, rng: random.Random, *, disturbed: bool = True) -> np.ndarray:
        """float32 [frames, 80]. Powers of sounds that are independent add up, so noise is mixed in without samples."""
        x = self.features[index].astype(np.float32)
        if not disturbed:
            return x
        if rng.random() < 0.4:
            x = _in_other_time(x, rng)
        if rng.random() < 0.4:
            x = x @ rng.choice(_TRACTS)
        if rng.random() < 0.6:
            x = x + _microphone(rng)
        if rng.random() < 0.07:  # a telephone
            x[:, rng.randint(52, 74) :] = FLOOR / 2
        x = x + np.float32(DB * rng.uniform(-24, 6))
        if rng.random() < 0.06:
            x = _over(x, rng.choice(self.features), rng.uniform(10, 25), rng)
        if rng.random() < 0.65:
            x = _over(x, rng.choice(self.backgrounds), rng.uniform(HEAVY_NOISE_DB, LIGHT_NOISE_DB), rng)
        return np.maximum(x, FLOOR)

    def batch(self, indices: list[int], rng: random.Random, *, disturbed: bool = True) -> tuple[Tensor, Tensor]:
        """float32 [n, frames, 80] and the frames of each."""
        return padded([self.heard(i, rng, disturbed=disturbed) for i in indices])


def _in_other_time(x: np.ndarray, rng: random.Random) -> np.ndarray:
    """A little faster or more slowly as a whole, and inside of it now faster and now more slowly."""
    dice = np.random.default_rng(rng.getrandbits(63))
    n = max(int(len(x) * rng.uniform(0.85, 1.2)), 12)
    knots = np.exp(dice.normal(0, 0.15, n // 12 + 2))
    pace = np.cumsum(np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots))
    at = (pace - pace[0]) / (pace[-1] - pace[0]) * (len(x) - 1)
    low = at.astype(int)
    part = (at - low)[:, None].astype(np.float32)
    return x[low] * (1 - part) + x[np.minimum(low + 1, len(x) - 1)] * part


def _microphone(rng: random.Random) -> np.ndarray:
    """How much louder each band is by a microphone, smooth, up to some 10 dB."""
    curve = np.zeros(BINS, np.float32)
    for waves in (0.5, 1, 1.5, 2.5):
        phase = rng.uniform(0, 6.3)
        curve += rng.gauss(0, 3) * np.sin(np.linspace(phase, phase + waves * 2 * np.pi, BINS), dtype=np.float32)
    return np.float32(DB) * curve


def _over(x: np.ndarray, other: np.ndarray, below_db: float, rng: random.Random) -> np.ndarray:
    """With another sound so far below it."""
    start = rng.randrange(len(other))
    noise = np.resize(np.roll(other, -start, 0), x.shape).astype(np.float32)
    return np.logaddexp(x, noise + np.float32(_level(x) - _level(noise) - DB * below_db))


def _level(x: np.ndarray) -> float:
    return float(np.log(np.mean(np.exp(x))))


def _tract(factor: float) -> np.ndarray:
    """float32 [80, 80]: bands of a voice whose formants are ``factor`` times as high."""
    edges = 1127 * np.log1p(np.array([20, 8000]) / 700)
    mels = edges[0] + (np.arange(BINS) + 1) * (edges[1] - edges[0]) / (BINS + 1)
    hz = 700 * np.expm1(mels / 1127)
    from_mels = 1127 * np.log1p(hz / factor / 700)
    at = np.clip(np.interp(from_mels, mels, np.arange(BINS)), 0, BINS - 1)
    return np.maximum(0, 1 - np.abs(np.arange(BINS)[:, None] - at)).astype(np.float32)


_TRACTS = [_tract(factor) for factor in np.geomspace(0.92, 1.1, 15)]


def padded(features: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    frames = torch.tensor([len(f) for f in features])
    batch = torch.zeros(len(features), int(frames.max()), features[0].shape[1])
    for row, f in zip(batch, features):
        row[: len(f)] = torch.from_numpy(f)
    return batch, frames


def striped(x: Tensor, frames: Tensor, rng: random.Random) -> Tensor:
    """SpecAugment on normalised features: bands and moments are set to their mean."""
    x = x.clone()
    for row, length in zip(x, frames.tolist()):
        width = rng.randint(0, 12)
        start = rng.randint(0, x.shape[2] - width)
        row[:, start : start + width] = 0
        width = rng.randint(0, min(10, length // 12))
        start = rng.randint(0, length - width)
        row[start : start + width] = 0
    return x
