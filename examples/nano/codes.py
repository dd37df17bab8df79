"""Stage voice 1: from sentences to sound and its codes, 40 per second.

A code of a voiced frame says which of a few spectra it has and at which quarter of a period it begins; one of an
unvoiced frame says which spectrum it has. The spectra are the centres of clusters of all frames of the training.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from tqdm import tqdm

from pitch_phase import FRAME, PHASES, RATE_HZ, UNVOICED, in_step
from reply_voice import SYNTHESISER_RATE_HZ, Sentences, say_reply, sentences
from vocabulary import OUT

__all__ = ["CODES", "UNVOICED_CODES", "VOICED_SPECTRA", "Corpus", "further_codes", "load_corpus", "voice_folder"]

CODES = 1024
VOICED_SPECTRA = 224
UNVOICED_CODES = CODES - PHASES * VOICED_SPECTRA
"""They come first; code = UNVOICED_CODES + PHASES · spectrum + phase when voiced."""
BANDS = 32
CENTRES = (150, 300, 450)
"""Samples of a frame around which its spectrum is taken."""
WINDOW = 512
CEPSTRA = 16
ROUNDS = 40


@dataclass(frozen=True)
class Corpus:
    """Sentences with their sound: ``waves[i]`` int16 [600 n] at 24 kHz, ``codes[i]`` int64 [n]."""

    texts: list[str]
    waves: list[NDArray[np.int16]]
    codes: list[NDArray[np.int64]]
    training: int
    """The first so many are those of the training."""


def voice_folder(out: Path = OUT) -> Path:
    folder = out / "voice_stages"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_corpus(out: Path = OUT) -> Corpus:
    """What :func:`main` saved."""
    folder = voice_folder(out)
    stored = np.load(folder / "corpus.npz")
    ends = np.cumsum(stored["frames"])
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    waves = np.split(stored["wave"], FRAME * ends[:-1])
    return Corpus(texts, waves, np.split(stored["codes"], ends[:-1]), int(stored["training"]))


def spectra(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of each frame of ``wave`` float32 [600 n]: float32 [n, 3 · 16], log-mel cepstra, c0 weakened."""
    padded = np.pad(wave, WINDOW)
    starts = FRAME * np.arange(len(wave) // FRAME)[:, None] + np.array(CENTRES) - WINDOW // 2 + WINDOW
    windows = padded[starts[..., None] + np.arange(WINDOW)] * np.hanning(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(windows, axis=-1)) ** 2
    bands = np.log(power @ _mel_weights() + 1e-3)
    cepstra = dct(bands, axis=-1, norm="ortho")[..., :CEPSTRA]
    cepstra[..., 0] *= 0.6
    return cepstra.reshape(len(cepstra), -1).astype(np.float32)


def _mel_weights() -> NDArray[np.float64]:
    def mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 2595 * np.log10(1 + hz / 700)

    centres = np.linspace(mel(np.array(60.0)), mel(np.array(8000.0)), BANDS + 2)
    bins = mel(np.arange(WINDOW // 2 + 1) * RATE_HZ / WINDOW)
    rising = (bins[:, None] - centres[:-2]) / (centres[1:-1] - centres[:-2])
    falling = (centres[2:] - bins[:, None]) / (centres[2:] - centres[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


def clusters(points: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Centres float32 [count, d] by k-means, begun at points drawn far from those before (k-means++)."""
    rng = np.random.default_rng(seed)
    if len(points) > 60_000:
        points = points[rng.choice(len(points), 60_000, replace=False)]
    centres = points[rng.integers(len(points), size=1)]
    distances = ((points - centres) ** 2).sum(axis=1)
    while len(centres) < count:
        new = points[rng.choice(len(points), p=distances / distances.sum())][None]
        centres = np.concatenate([centres, new])
        distances = np.minimum(distances, ((points - new) ** 2).sum(axis=1))
    for _ in range(ROUNDS):
        owner = nearest(points, centres)
        order = np.argsort(owner, kind="stable")
        numbers, first = np.unique(owner[order], return_index=True)
        centres[numbers] = np.add.reduceat(points[order], first) / np.diff([*first, len(points)])[:, None]
    return centres


def nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the nearest centre of each point."""
    return ((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)


def frames_to_codes(
    features: NDArray[np.float32],
    phase: NDArray[np.int64],
    voiced_centres: NDArray[np.float32],
    unvoiced_centres: NDArray[np.float32],
) -> NDArray[np.int64]:
    """int64 [n]"""
    voiced = UNVOICED_CODES + PHASES * nearest(features, voiced_centres) + phase
    return np.where(phase == UNVOICED, nearest(features, unvoiced_centres), voiced)


def further_codes(out: Path = OUT) -> dict[str, NDArray[np.int64]]:
    """Sentences for the speech decoder alone, with their codes int64 [n]; none until :func:`main` has made them."""
    file = voice_folder(out) / "further.json"
    stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {text: np.array(codes, np.int64) for text, codes in stored.items()}


def main() -> None:
    found, corpus = sentences(), voice_folder() / "corpus.npz"
    if not corpus.exists():
        _speak_corpus(found, corpus)
    stored = np.load(corpus)
    centres = stored["voiced_centres"], stored["unvoiced_centres"]
    further = {}
    for text in tqdm(found.further, desc="speaking more", disable=None):
        frames = in_step(say_reply(text), SYNTHESISER_RATE_HZ)
        further[text] = frames_to_codes(spectra(frames.wave), frames.phase, *centres).tolist()
    (voice_folder() / "further.json").write_text(json.dumps(further), encoding="utf-8")


def _speak_corpus(found: Sentences, file: Path) -> None:
    texts = [*found.training, *found.held_out]
    spoken = [in_step(say_reply(text), SYNTHESISER_RATE_HZ) for text in tqdm(texts, desc="speaking", disable=None)]
    training = len(found.training)
    features = [spectra(frames.wave) for frames in spoken]
    points = np.concatenate(features[:training])
    phases = np.concatenate([frames.phase for frames in spoken[:training]])
    voiced = clusters(points[phases != UNVOICED], VOICED_SPECTRA, seed=1)
    unvoiced = clusters(points[phases == UNVOICED], UNVOICED_CODES, seed=2)
    codes = [frames_to_codes(f, frames.phase, voiced, unvoiced) for f, frames in zip(features, spoken)]
    joined = np.concatenate([frames.wave for frames in spoken])
    np.savez(
        file,
        wave=np.clip(32768 * joined, -32768, 32767).astype(np.int16),
        codes=np.concatenate(codes),
        frames=np.array([len(c) for c in codes]),
        training=training,
        voiced_centres=voiced,
        unvoiced_centres=unvoiced,
    )
    (voice_folder() / "texts.json").write_text(json.dumps(texts, indent=0), encoding="utf-8")
    used = np.bincount(np.concatenate(codes), minlength=CODES)
    print(f"{len(texts)} sentences, {len(joined) / RATE_HZ / 60:.0f} minutes, {np.count_nonzero(used)} codes in use")
    print(f"loudest sample {np.abs(joined).max():.2f}, {np.mean(phases != UNVOICED):.0%} of the frames voiced")


if __name__ == "__main__":
    main()
