"""Stage voice 2: train the generator that turns codes into a voice. Goes on where it was stopped.

The loss compares spectra at four resolutions, and the wave itself below 3 kHz: the codes say at which phase a frame
begins, so the wave can be learned and the voice is clear without an adversary.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codes import Corpus, load_corpus, voice_folder
from curves import Curves
from generator import Generator
from pitch_phase import FRAME
from reply_voice import kind

__all__ = ["load_generator"]

STEPS = 4200
BATCH, SEGMENT, MARGIN = 8, 32, 3
"""Codes of a segment, and those at either end that are not judged: their neighbours are missing."""
RATE, WARM_UP = 2e-3, 200
AVERAGE = 0.995
"""Weights that are used are a moving average of those that are trained."""
SIZES = (2048, 1024, 512, 240)
SHARES = {"small talk": 0.4, "sums": 0.3, "places": 0.1, "descriptions": 0.2}
"""Of the segments, by what the sentences are about: small talk has words that nothing else has, each said but once."""
SAVE_EVERY = 50


class WaveLoss(nn.Module):
    """waves float32 [batch, samples] → losses of spectrum and of wave."""

    def __init__(self) -> None:
        super().__init__()
        for size in SIZES:
            self.register_buffer(f"window{size}", torch.hann_window(size))
        taps = torch.arange(-24, 25, dtype=torch.float32)
        low = torch.sinc(taps * 6000 / 24000) * torch.hann_window(51)[1:-1]
        self.register_buffer("low", (low / low.sum())[None, None])

    def forward(self, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = torch.zeros(())
        for size in SIZES:
            m, t = (self._magnitude(wave, size) for wave in (made, true))
            spectrum = spectrum + functional.l1_loss(torch.log(m + 1e-2), torch.log(t + 1e-2))
            spectrum = spectrum + (m - t).norm() / (t.norm() + 1e-3)
        difference = functional.conv1d((made - true)[:, None], self.low)
        return spectrum / len(SIZES), difference.abs().mean()

    def _magnitude(self, wave: Tensor, size: int) -> Tensor:
        window = getattr(self, f"window{size}")
        return torch.stft(wave, size, size // 4, window=window, return_complex=True).abs().clamp_min(1e-5)


class Segments:
    """Random segments of the training's sentences, the same for the same step."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        kinds = np.array([kind(text) for text in corpus.texts[: corpus.training]])
        self._groups = [np.flatnonzero(kinds == name) for name in SHARES]
        self._sentences = [self._padded(i) for i in range(corpus.training)]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """codes int64 [batch, SEGMENT], waves float32 [batch, FRAME · SEGMENT]"""
        rng = np.random.default_rng((7, step))
        codes, waves = [], []
        for _ in range(BATCH):
            group = self._groups[rng.choice(len(SHARES), p=list(SHARES.values()))]
            found, wave = self._sentences[int(rng.choice(group))]
            start = int(rng.integers(0, len(found) - SEGMENT + 1))
            codes.append(found[start : start + SEGMENT])
            waves.append(wave[FRAME * start : FRAME * (start + SEGMENT)])
        return torch.from_numpy(np.stack(codes)), torch.from_numpy(np.stack(waves).astype(np.float32) / 32768)

    def _padded(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        codes, wave = self._corpus.codes[i], self._corpus.waves[i]
        missing = max(SEGMENT - len(codes), 0)  # a short sentence goes on with its last silence
        return np.pad(codes, (0, missing), mode="edge"), np.pad(wave, (0, FRAME * missing))


def state_file() -> Path:
    return voice_folder() / "codec.pt"


def load_generator() -> Generator:
    """The trained generator, averaged weights."""
    generator = Generator()
    generator.load_state_dict(torch.load(state_file(), weights_only=True)["average"])
    return generator.eval()


def learning_rate(step: int, steps: int) -> float:
    return RATE * min(1.0, step / WARM_UP) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(step / steps, 1))) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="in all, those of earlier calls included")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    segments, loss = Segments(load_corpus()), WaveLoss()
    generator = Generator()
    optimizer = torch.optim.AdamW(generator.parameters(), RATE, betas=(0.8, 0.99), weight_decay=0.0)
    average = {name: value.clone() for name, value in generator.state_dict().items()}
    step = 0
    if state_file().exists():
        state = torch.load(state_file(), weights_only=True)
        generator.load_state_dict(state["generator"])
        optimizer.load_state_dict(state["optimizer"])
        average, step = state["average"], state["step"]
    curves = Curves(voice_folder() / "codec_loss.json")
    inner = slice(FRAME * MARGIN, -FRAME * MARGIN)
    while step < steps:
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        codes, waves = segments.batch(step)
        with torch.autocast("cpu", torch.bfloat16):
            made = generator(codes)
        spectrum, wave = loss(made[:, inner], waves[:, inner])
        total = spectrum + 15 * wave
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(generator.parameters(), 10.0)
        optimizer.step()
        decay = min(AVERAGE, step / (step + 20))
        for name, value in generator.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        curves.add(step, spectrum=spectrum.item(), wave=wave.item())
        if step % SAVE_EVERY == 0 or step == steps:
            state = {"generator": generator.state_dict(), "optimizer": optimizer.state_dict()}
            part = state_file().with_suffix(".part")
            torch.save({**state, "average": average, "step": step}, part)
            part.replace(state_file())
            curves.save()


if __name__ == "__main__":
    main()
