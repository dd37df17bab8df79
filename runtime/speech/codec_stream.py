"""Codes to sound while codes still come: the exact stream, and the reference's with its cuts.

Both streams decode overlapping windows of codes with a codec that zero-pads every call, and keep the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import CodecFacts

__all__ = ["WINDOW", "Cut", "DecodeCodes", "ExactCodecStream", "ReferenceCodecStream", "Samples", "find_cut"]

Samples: TypeAlias = NDArray[np.float32]
"""float32 [samples], -1 to 1, at ``CodecFacts.sample_rate_hz``"""
DecodeCodes: TypeAlias = Callable[[NDArray[np.int64]], Samples]
"""Codes int64 [1, n] to float32 [n * samples_per_code]; the result may be overwritten by the next call."""


class ExactCodecStream:
    """A stream that, joined, equals one decode of the whole sentence up to float rounding.

    Each window carries the codec's whole receptive field: ``facts.left_context`` codes already spoken and
    ``facts.right_context`` codes that are not spoken yet. The first sound needs ``chunks[0] + right_context`` codes.

    Args:
        chunks: codes of the first pieces; the last of them is that of all that follow.
    """

    def __init__(self, decode: DecodeCodes, facts: CodecFacts, *chunks: int) -> None:
        if min(chunks) < 1:
            raise ValueError(f"a chunk has at least one code, not {min(chunks)}")
        self._decode = decode
        self._facts = facts
        self._chunks = chunks
        self.reset()

    def reset(self) -> None:
        """As before the first code of a sentence."""
        self._codes: list[int] = []
        self._spoken = 0
        self._pieces = 0

    def step(self, code: int) -> Iterator[Samples]:
        """Take one code; yield a chunk's samples when its right context is complete."""
        self._codes.append(code)
        chunk = self._chunks[min(self._pieces, len(self._chunks) - 1)]
        if len(self._codes) == self._spoken + chunk + self._facts.right_context:
            self._pieces += 1
            yield self._speak(chunk)

    def flush(self) -> Iterator[Samples]:
        """The sentence has ended: yield the rest, then be ready for the next sentence."""
        rest = self._speak(len(self._codes) - self._spoken) if self._codes else _NOTHING
        self.reset()
        if rest.size:
            yield rest

    def _speak(self, count: int) -> Samples:
        """Decode the window; keep the samples of the ``count`` codes after those spoken, and drop codes done with."""
        rate = self._facts.samples_per_code
        wave = _run(self._decode, self._codes)
        new: Samples = wave[rate * self._spoken : rate * (self._spoken + count)].copy()
        self._spoken += count
        done = max(self._spoken - self._facts.left_context, 0)
        del self._codes[:done]
        self._spoken -= done
        return new


@dataclass(frozen=True)
class Cut:
    """The search for a quiet place in one chunk; sample numbers count from the chunk's first."""

    emitted: bool
    """A segment was yielded; else the chunk was too loud and is kept for later."""
    first: int
    """First sample of the stretch searched."""
    stop: int
    """One past its last."""
    cut: int
    """The quietest sample, where the segment ends; -1 when nothing was emitted."""
    quietest: float
    """Mean magnitude of the quietest window."""


class ReferenceCodecStream:
    """The stream of the reference's demos (spec 8.5), with their cuts, for parity and for comparing by ear.

    It looks ``padding`` codes ahead and back, less than the receptive field of the released codec (10, not 13), so its
    signal differs slightly from a whole decode near the edges of chunks. ``cuts`` records every search of the sentence.
    """

    def __init__(self, decode: DecodeCodes, facts: CodecFacts, chunk: int, threshold: float, padding: int = 10) -> None:
        if padding < 1 or chunk * facts.samples_per_code < WINDOW:
            raise ValueError(f"the cut search needs padding and chunks of {WINDOW} samples or more")
        self._decode = decode
        self._rate = facts.samples_per_code
        self._chunk = chunk
        self._threshold = threshold
        self._padding = padding
        self.reset()

    def reset(self) -> None:
        """As before the first code of a sentence."""
        self.cuts: list[Cut] = []
        self._codes: list[int] = []
        self._left = 0
        self._retained = _NOTHING

    def step(self, code: int) -> Iterator[Samples]:
        """Take one code; yield a segment when a chunk is complete and has a quiet place."""
        if not self._codes:
            self.cuts = []
        self._codes.append(code)
        if len(self._codes) < self._left + self._chunk + self._padding:
            return
        wave = _run(self._decode, self._codes)[self._rate * self._left : -self._rate * self._padding]
        self._left = self._padding
        self._codes = self._codes[-2 * self._padding :]
        cut = find_cut(wave, self._threshold)
        self.cuts.append(cut)
        joined = np.concatenate([self._retained, wave])
        if not cut.emitted:
            self._retained = joined
            return
        end = len(self._retained) + cut.cut
        self._retained = joined[end:]
        yield joined[:end]

    def flush(self) -> Iterator[Samples]:
        """The sentence has ended: yield the rest. ``cuts`` stays readable until the next sentence begins."""
        if not self._codes:
            return
        wave = _run(self._decode, self._codes)[self._rate * self._left :]
        joined, cuts = np.concatenate([self._retained, wave]), self.cuts
        self.reset()
        self.cuts = cuts
        yield joined


def find_cut(wave: Samples, threshold: float) -> Cut:
    """Look for the quietest sample in the quietest window of the second half of ``wave``, float32 [2401 or more].

    The stretch searched runs from the window's start b to ``m + 2401 + b``, m being b relative to where the search
    began: the reference counts the start twice, and so do we. Sums are float64: running sums in float32 would drift
    by more than neighbouring windows differ.
    """
    loudness = np.abs(wave)
    sums = np.concatenate([[0.0], np.cumsum(loudness, dtype=np.float64)])
    windows = sums[WINDOW:] - sums[:-WINDOW]
    begin = max(len(wave) // 2 - WINDOW // 2, 0)
    relative = int(np.argmin(windows[begin:]))
    first = begin + relative
    stop = min(len(wave), relative + WINDOW + first)
    quietest = float(windows[first]) / WINDOW
    if quietest >= threshold:
        return Cut(False, first, stop, -1, quietest)
    return Cut(True, first, stop, first + int(np.argmin(loudness[first:stop])), quietest)


WINDOW = 2401
"""Samples over which loudness is averaged: 0.1 s at 24 kHz, made odd."""
_NOTHING: Samples = np.zeros(0, np.float32)


def _run(decode: DecodeCodes, codes: list[int]) -> Samples:
    return decode(np.asarray([codes], dtype=np.int64))
