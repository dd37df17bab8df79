"""Blocks of samples: 16 bits to floats and back, and leading silence off before speech is played."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vita_edge.engines.errors import BadInput

from ..speech.codec_stream import Samples

__all__ = ["LeadingSilenceTrim", "float_samples", "to_pcm16", "trim_leading_silence"]


def trim_leading_silence(segment: Samples) -> Samples:
    """Drop what lies before the first sample louder than 0.03; a segment without one is kept whole.

    The reference does so to *every* segment of the first sentence (spec 8.6), which shortens pauses inside it.
    """
    return segment[_first_sound(segment) or 0 :]


class LeadingSilenceTrim:
    """The same for a whole stream: only the silence before its very first sound is dropped.

    Quiet samples are held until the first sound. A stream that stays quiet is kept: it comes out whole at the end, as
    the reference keeps a segment that stays quiet.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As before the first sample."""
        self._sounding = False
        self._held: list[Samples] = []

    def step(self, samples: Samples) -> Samples:
        """Take float32 [n]; give what may be played now, from the first sound on; empty before it."""
        if self._sounding:
            return samples
        first = _first_sound(samples)
        if first is None:
            self._held.append(samples)
            return samples[:0]
        self._sounding = True
        self._held.clear()
        return samples[first:]

    def flush(self) -> Samples:
        """The stream has ended: all of it if it stayed quiet, else nothing. Then be ready for the next stream."""
        held = self._held
        self.reset()
        return np.concatenate(held) if held else np.zeros(0, np.float32)


def float_samples(block: ArrayLike, sample_rate_hz: int) -> NDArray[np.float32]:
    """A block of audio, int16 [n] or floats [n] with full scale 1.0, as float32 [n].

    Raises:
        BadInput: it is something else.
    """
    array = np.asarray(block)
    if array.ndim != 1 or array.dtype.kind not in "if" or sample_rate_hz <= 0:
        raise BadInput(
            f"A block of audio is {array.dtype} {list(array.shape)} at {sample_rate_hz} Hz.",
            why="It must be int16 or float, one axis, mono, at a rate above 0.",
            fix="Take one channel, and divide samples of other widths by their full scale.",
        )
    if array.dtype.kind == "i":
        if array.dtype != np.int16:
            raise BadInput(
                f"A block of audio is {array.dtype}.", why="Integers must be int16.", fix="Convert the samples."
            )
        return array.astype(np.float32) / np.float32(32768)
    return array.astype(np.float32)


def to_pcm16(samples: Samples) -> NDArray[np.int16]:
    """float32 [n], -1 to 1, to int16 [n]: ``32768 x`` towards zero; 1.0 and louder become 32767 instead of wrapping."""
    pcm: NDArray[np.int16] = np.clip(samples * np.float32(32768), -32768, 32767).astype(np.int16)
    return pcm


_AUDIBLE = np.float32(0.03)
"""Magnitude of a first sound (spec 8.6)."""


def _first_sound(samples: Samples) -> int | None:
    loud = np.abs(samples) > _AUDIBLE
    return int(np.argmax(loud)) if loud.any() else None
