"""Sound as numbers: arrays as they come, changing the rate as the reference does, and writing replies."""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from vita_edge.engines.bundle.atomic_file import PRIVATE, write_whole
from vita_edge.engines.errors import Misuse

__all__ = ["Sound", "resample", "write_wav"]

MAX_CHANNELS = 64
"""Of an array of two axes the one with at most so many is the channels."""
SILENT, SOFTER = 1e-3, 30.0
"""A silent channel peaks below -60 dBFS, and 30 dB below another."""
INTEGER_SCALE = 128.0
"""Peak from which floats are integers that were not divided by their full scale."""
_FULL_SCALES = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sound:
    """PCM as floats, full scale 1.0.

    Arrays are taken as the common libraries give them: [n, channels] as sounddevice and soundfile do, or [channels, n];
    int16 and int32 are divided by their full scale, and so, with a warning, are floats that are integers in disguise.

    Attributes:
        samples: float32 [channels, n], or [n] when there is one channel.
        sample_rate_hz: samples a second of each channel; a whole number, also as a float.
        notes: what is odd about it, a sentence each; the same is logged as a warning.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int
    notes: tuple[str, ...] = field(default=(), init=False, compare=False)

    def __post_init__(self) -> None:
        rate = _whole_rate(self.sample_rate_hz)
        samples = _channels_first(np.asarray(self.samples))
        samples, notes = _full_scale(samples)
        if note := _silent_first_channel(samples):
            notes = (*notes, note)
        for note in notes:
            _log.warning("%s", note)
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate_hz", rate)
        object.__setattr__(self, "notes", notes)

    @property
    def heard_channel(self) -> NDArray[np.float32]:
        """float32 [n]: what the model hears: the first channel, or the loudest where the first is silent.

        The reference does not mix channels down.
        """
        return self.samples if self.samples.ndim == 1 else self.samples[_heard(self.samples)]

    @property
    def seconds(self) -> float:
        return float(self.samples.shape[-1] / self.sample_rate_hz)


def write_wav(path: str | Path, samples: NDArray[np.int16] | NDArray[np.floating], sample_rate_hz: int) -> None:
    """Write a mono 16-bit WAV file; it appears whole or not at all, and a new one is its owner's alone to read.

    Args:
        path: where to; an existing file is replaced.
        samples: int16 [n], or floats [n] in [-1, 1], which are multiplied by 32768, clipped and cut towards zero
            (specification 8.6).
        sample_rate_hz: samples a second.

    Raises:
        OutputFailed: the file could not be written.
    """
    if samples.dtype != np.int16:
        samples = np.clip(np.trunc(samples * 32768.0), -32768, 32767).astype(np.int16)
    wav = io.BytesIO()  # encoded in memory, so that whatever fails on the disk is an OSError with a reason
    soundfile.write(wav, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
    write_whole(path, wav.getbuffer(), mode=PRIVATE)


def resample(samples: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Change the rate of float32 [n]; returns float32 [ceil(to_hz * n / from_hz)].

    The windowed sinc of the reference, specification 5.1: six zero crossings to each side under a squared cosine,
    rolled off at 0.99 of the lower Nyquist rate. It is written out here and not taken from a library, because parity is
    defined against this very formula. Rates are reduced to o:n; output sample ``q n + p`` reads a window around input
    sample ``q o + p o / n`` with weights that depend on p alone, so all q of one p are one matrix product. Work grows
    with the samples and memory stays bounded, whatever the ratio.
    """
    if from_hz == to_hz:
        return samples
    divisor = math.gcd(from_hz, to_hz)
    o, n = from_hz // divisor, to_hz // divisor
    base = 0.99 * min(o, n)
    width = math.ceil(6 * o / base)
    taps = 2 * width + 2
    rows = max((1 << 20) // taps, 1)
    total = -(-n * samples.size // o)
    result = np.empty(total, np.float32)
    padded = np.pad(samples.astype(np.float32, copy=False), width + 1)
    for p in range(min(n, total)):
        first = p * o // n
        t = np.clip(base * ((np.arange(taps) + first - width) / o - p / n), -6.0, 6.0)
        weights = (base / o * np.cos(np.pi * t / 12) ** 2 * np.sinc(t)).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(padded[first + 1 :], taps)[::o]
        phase = result[p::n]
        for start in range(0, phase.size, rows):
            block = slice(start, min(start + rows, phase.size))
            phase[block] = windows[block] @ weights
    return result


def _whole_rate(rate: float) -> int:
    try:
        whole = int(rate)
    except (TypeError, ValueError, OverflowError):
        whole = 0
    if whole <= 0 or whole != rate:
        raise Misuse(
            f"{rate!r} is no sample rate.", why="A rate is a whole number of samples a second.", fix="Give 16000, say."
        )
    return whole


def _channels_first(samples: NDArray[Any]) -> NDArray[Any]:
    """[n], or [channels, n] also from [n, channels]: the axis that is much the shorter is the channels."""
    shape = f"{samples.dtype} {list(samples.shape)}"
    if samples.dtype.kind != "f" and samples.dtype.name not in _FULL_SCALES:
        raise Misuse(
            f"These samples are no sound: {shape}.",
            why="Samples are floats with full scale 1.0, or int16 or int32.",
            fix="Convert them, for example with samples.astype(numpy.float32).",
        )
    if samples.ndim == 2 and min(samples.shape) <= MAX_CHANNELS:
        return samples.T if samples.shape[0] > MAX_CHANNELS or samples.shape[1] == 1 else samples
    if samples.ndim != 1:
        raise Misuse(
            f"These samples are no sound: {shape}.",
            why=f"A sound is [n], [n, channels] or [channels, n], with at most {MAX_CHANNELS} channels.",
            fix="Give one clip at a time, without an axis for the batch.",
        )
    return samples


def _full_scale(samples: NDArray[Any]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """float32 with full scale 1.0, and what had to be guessed."""
    if samples.dtype.name in _FULL_SCALES:
        return np.ascontiguousarray(samples / np.float32(_FULL_SCALES[samples.dtype.name]), np.float32), ()
    floats = np.ascontiguousarray(samples, np.float32)
    peak = float(np.abs(floats).max(initial=0))
    if not INTEGER_SCALE <= peak <= _FULL_SCALES["int32"]:  # infinity and NaN are refused when they are to be heard
        loud = "Its samples reach {:.3g} times full scale, and are far too loud: divide them."
        return floats, (loud.format(peak),) if 4 < peak < INTEGER_SCALE else ()
    bits = 16 if peak <= _FULL_SCALES["int16"] else 32
    note = f"Its samples are floats up to {peak:,.0f}, where full scale is 1: they are read as {bits}-bit integers."
    return floats / np.float32(_FULL_SCALES[f"int{bits}"]), (note,)


def _heard(samples: NDArray[np.float32]) -> int:
    """The channel that is heard, of [channels, n]."""
    if not samples.size or not samples[0].size:
        return 0
    peaks = np.abs(samples).max(axis=1)
    return int(np.argmax(peaks)) if peaks[0] < SILENT and peaks.max() > SOFTER * peaks[0] else 0


def _silent_first_channel(samples: NDArray[np.float32]) -> str | None:
    if samples.ndim == 2 and (heard := _heard(samples)):
        return f"The first of its {len(samples)} channels is silent: channel {heard + 1}, the loudest, is heard."
    return None
