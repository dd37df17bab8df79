"""Sound files as the model hears them: one channel at 16 kHz, then the filter bank."""

from __future__ import annotations

import math
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from vita_edge.export.checkpoint.config import AudioConfig

__all__ = ["SAMPLE_RATE_HZ", "fbank", "read_wave", "resample"]

SAMPLE_RATE_HZ = 16000
LOW_HZ, HIGH_HZ = 20, 8000
ENERGY_FLOOR = 1.1920929e-07
ZEROS, ROLLOFF = 6, 0.99
"""Of the resampler: zero crossings on each side of the kernel, and the share of the band that passes."""


def read_wave(path: Path) -> Tensor:
    """The first channel at 16 kHz: float32 [samples], in [-1, 1)."""
    samples, rate_hz = soundfile.read(path, dtype="float64", always_2d=True)
    wave = torch.from_numpy(samples[:, 0].copy())
    return (wave if rate_hz == SAMPLE_RATE_HZ else resample(wave, rate_hz, SAMPLE_RATE_HZ)).float()


def resample(wave: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Windowed sinc interpolation: float64 [n] → [ceil(n * to_hz / from_hz)]."""
    old, new = from_hz // math.gcd(from_hz, to_hz), to_hz // math.gcd(from_hz, to_hz)
    base = ROLLOFF * min(old, new)
    width = math.ceil(ZEROS * old / base)
    taps = torch.arange(-width, width + old, dtype=torch.float64) / old
    phases = torch.arange(new, dtype=torch.float64) / new
    t = (base * (taps[None, :] - phases[:, None])).clamp(-ZEROS, ZEROS)
    kernel = base / old * torch.cos(torch.pi * t / (2 * ZEROS)) ** 2 * torch.sinc(t)
    windows = torch.nn.functional.pad(wave, (width, width + old)).unfold(0, 2 * width + old, old)
    return (windows @ kernel.T).flatten()[: math.ceil(new * len(wave) / old)]


def fbank(wave: Tensor, c: AudioConfig) -> Tensor:
    """Logarithms of mel energies, one row for each frame that is whole: float32 [frames, mel_bins]."""
    length, shift = (int(SAMPLE_RATE_HZ * ms / 1000) for ms in (c.frame_length_ms, c.frame_shift_ms))
    if len(wave) < length:
        return torch.zeros(0, c.mel_bins)
    frames = (wave.double() * 32768).unfold(0, length, shift)
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    i = torch.arange(length, dtype=torch.float64)
    window = (0.5 - 0.5 * torch.cos(2 * torch.pi * i / (length - 1))) ** 0.85
    points = 1 << (length - 1).bit_length()
    power = torch.fft.rfft((frames - 0.97 * before) * window, points).abs() ** 2
    mel = _mel_filters(c.mel_bins, points)
    return (power[:, : points // 2] @ mel.T).clamp(min=ENERGY_FLOOR).log().float()


def _mel_filters(bins: int, points: int) -> Tensor:
    """Triangles at equal distances in mel: float64 [bins, points / 2]."""
    low, high = (1127 * math.log(1 + hz / 700) for hz in (LOW_HZ, HIGH_HZ))
    step = (high - low) / (bins + 1)
    hz = SAMPLE_RATE_HZ / points * torch.arange(points // 2, dtype=torch.float64)
    mel = 1127 * torch.log(1 + hz / 700)
    left = low + step * torch.arange(bins, dtype=torch.float64)[:, None]
    return torch.minimum((mel - left) / step, (left + 2 * step - mel) / step).clamp(min=0)
