"""Features of sounds as the model is trained with: in noise, at any level, with stripes left out."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from stage_sounds import read_sounds

__all__ = ["Sounds"]

DB = np.log(10) / 10
"""A decibel in the natural logarithm of a power, which the filter bank's values are."""


class Sounds:
    """Sets of features by name, and batches of them."""

    def __init__(self, *names: str) -> None:
        self.texts: list[str] = []
        self.kinds: list[str] = []
        self.features: list[np.ndarray] = []
        for name in names:
            texts, features = read_sounds(name)
            self.texts += texts
            self.kinds += [name] * len(texts)
            self.features += features
        self.lengths = [len(f) for f in self.features]
        self.backgrounds = read_sounds("background")[1]
        self.by_text: dict[str, list[int]] = {}
        for i, (text, kind) in enumerate(zip(self.texts, self.kinds)):
            self.by_text.setdefault(text if text else kind, []).append(i)
        self.of_kind = {kind: [i for i, k in enumerate(self.kinds) if k == kind] for kind in names}

    def heard(self, index: int, rng: random.Random, *, disturbed: bool = True) -> np.ndarray:
        """float32 [frames, 80]. Powers of sounds that are independent add up, so noise is mixed in without samples."""
        x = self.features[index].astype(np.float32)
        if not disturbed:
            return x
        if rng.random() < 0.15:  # said a little faster or more slowly
            n = max(int(len(x) * rng.uniform(0.9, 1.12)), 12)
            at = np.linspace(0, len(x) - 1, n)
            low = at.astype(int)
            part = (at - low)[:, None].astype(np.float32)
            x = x[low] * (1 - part) + x[np.minimum(low + 1, len(x) - 1)] * part
        x = x + np.float32(DB * rng.uniform(-18, 6))
        if rng.random() < 0.75:
            noise = rng.choice(self.backgrounds)
            start = rng.randrange(len(noise))
            noise = np.resize(np.roll(noise, -start, 0), x.shape).astype(np.float32)
            signal = np.log(np.mean(np.exp(x.astype(np.float64))))
            level = np.log(np.mean(np.exp(noise.astype(np.float64))))
            x = np.logaddexp(x, noise + np.float32(signal - level - DB * rng.uniform(6, 36)))
        return np.maximum(x, np.float32(-15.942385))

    def batch(self, indices: list[int], rng: random.Random, *, disturbed: bool = True) -> tuple[Tensor, Tensor]:
        """float32 [n, frames, 80] and the frames of each."""
        return padded([self.heard(i, rng, disturbed=disturbed) for i in indices])


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
        for _ in range(2):
            width = rng.randint(0, 10)
            start = rng.randint(0, x.shape[2] - width)
            row[:, start : start + width] = 0
        for _ in range(2):
            width = rng.randint(0, min(10, length // 12))
            start = rng.randint(0, length - width)
            row[start : start + width] = 0
    return x
