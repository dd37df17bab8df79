"""Sound as numbers: reading files, changing the rate as the reference does, and writing replies."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from vita_edge.engines.bundle.atomic_file import PRIVATE, write_whole
from vita_edge.engines.errors import BadInput, Misuse

__all__ = ["Sound", "read_sound", "resample", "write_wav"]

MAX_SAMPLES = 1 << 28
"""Samples of all channels that are read at most (1 GiB of floats)."""


@dataclass(frozen=True)
class Sound:
    """PCM as floats, full scale 1.0.

    Attributes:
        samples: float32 [channels, n], or [n] when there is one channel.
        sample_rate_hz: samples a second of each channel.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int

    def __post_init__(self) -> None:
        if self.samples.dtype.kind != "f" or self.samples.ndim not in (1, 2) or self.sample_rate_hz <= 0:
            shape = f"{self.samples.dtype} {list(self.samples.shape)} at {self.sample_rate_hz} Hz"
            raise Misuse(
                f"These samples are no sound: {shape}.",
                why="A sound is float32 [channels, n] or [n] with full scale 1.0, at a rate above 0.",
                fix="Divide 16-bit samples by 32768, and put the channels first.",
            )

    @property
    def first_channel(self) -> NDArray[np.float32]:
        """float32 [n]: the only channel that the model hears; the reference does not mix down."""
        return self.samples if self.samples.ndim == 1 else self.samples[0]

    @property
    def seconds(self) -> float:
        return float(self.samples.shape[-1] / self.sample_rate_hz)


def read_sound(source: str | Path | bytes | BinaryIO) -> Sound:
    """Read WAV, FLAC, or whatever else libsndfile knows, with any bit depth, rate and number of channels.

    Integers are divided by their full scale (16 bit: 32768), floats are taken as they are. Of a file that was cut short
    the samples that are there are used.

    Args:
        source: a path, the bytes of a file, or an open binary file.

    Returns:
        the sound, samples float32 [channels, n], n > 0.

    Raises:
        BadInput: there is no such file, it is not a sound, it is damaged, or it holds no samples.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), "The sound")
    if not isinstance(source, (str, Path)):
        return _decode(source, str(getattr(source, "name", "The sound")))
    try:
        with Path(source).open("rb") as file:
            # a descriptor spares libsndfile the way back through Python for each block; pipes cannot be searched
            return _decode(file.fileno() if file.seekable() else io.BytesIO(file.read()), str(source))
    except OSError as error:
        why = f"{error.strerror or error}."
        raise BadInput(f"Cannot read the sound {source}.", why=why, fix="Check the path.") from error


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


def _decode(file: BinaryIO | int, name: str) -> Sound:
    try:
        with soundfile.SoundFile(file, closefd=False) as sound:
            if sound.frames * sound.channels > MAX_SAMPLES:
                why = f"It has {sound.frames * sound.channels:,} samples; at most {MAX_SAMPLES:,} are read."
                raise BadInput(f"{name} is too long to be read.", why=why, fix="Cut it into shorter clips.")
            samples = sound.read(dtype="float32", always_2d=True)
            rate = int(sound.samplerate)
    except (soundfile.SoundFileError, TypeError, ValueError, EOFError) as error:
        # TypeError: soundfile takes an open file called .raw for headerless samples and asks for their rate
        fix = "Give a sound file, for example WAV or FLAC."
        why = str(getattr(error, "error_string", error))
        raise BadInput(f"{name} is not a sound that can be read.", why=why, fix=fix) from error
    if samples.size == 0:
        raise BadInput(f"{name} holds no samples.", why="The file is empty or was cut short.", fix="Record it again.")
    return Sound(np.ascontiguousarray(samples.T), rate)
