"""The published live demo's stream: codes decoded in windows, sound cut where it is quiet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cut", "cut_stream", "decode_windows", "to_pcm16", "trim_leading_silence"]

Wave = NDArray[np.float32]
PADDING = 10
"""Codes on each side of what is decoded; fewer than the generator sees, so a stream differs from one pass."""
WINDOW = 2401
"""Samples whose mean magnitude is looked at for a cut."""
LOUD = 0.03


@dataclass(frozen=True)
class Cut:
    """One search for a cut; samples count from the beginning of the decoded chunk."""

    emitted: bool
    first: int
    stop: int
    cut: int
    """-1 when nothing is emitted."""
    quietest: float
    """Mean magnitude of the quietest window."""


def decode_windows(
    codes: Sequence[int], chunk: int, samples_per_code: int, decode: Callable[[NDArray[np.int64]], Wave]
) -> list[Wave]:
    """What each decoding pass adds; the last one ends the sentence."""
    left, held, parts = 0, [], []
    for code in codes:
        held.append(code)
        if len(held) == left + chunk + PADDING:
            parts.append(decode(np.array(held))[samples_per_code * left : -samples_per_code * PADDING])
            left, held = PADDING, held[-2 * PADDING :]
    return [*parts, decode(np.array(held))[samples_per_code * left :]] if held else parts


def cut_stream(parts: list[Wave], threshold: float) -> tuple[list[Wave], list[Cut]]:
    """The segments that are sent, and one search for every part but the last."""
    segments: list[Wave] = []
    cuts: list[Cut] = []
    buffer = np.zeros(0, np.float32)
    for part in parts[:-1]:
        found = _quiet_place(part, threshold)
        cuts.append(found)
        if found.emitted:
            segments.append(np.concatenate([buffer, part[: found.cut]]))
            buffer = part[found.cut :]
        else:
            buffer = np.concatenate([buffer, part])
    return [*segments, np.concatenate([buffer, *parts[-1:]])] if parts else [], cuts


def trim_leading_silence(wave: Wave) -> Wave:
    """Without what comes before the first loud sample."""
    loud = np.flatnonzero(np.abs(wave) > LOUD)
    return wave[loud[0] :] if len(loud) else wave


def to_pcm16(wave: Wave) -> NDArray[np.int16]:
    return np.clip(np.trunc(wave * np.float32(32768)), -32768, 32767).astype(np.int16)


def _quiet_place(part: Wave, threshold: float) -> Cut:
    """The quietest sample of the stretch that begins with the quietest window of the second half."""
    loudness = np.abs(part).astype(np.float64)
    low = len(part) // 2 - WINDOW // 2
    total = np.cumsum(np.concatenate([[0.0], loudness]))
    sums = total[WINDOW + low :] - total[low:-WINDOW]
    nearest = int(sums.argmin())
    first = nearest + low
    stop = min(len(part), nearest + WINDOW + first)  # the beginning counts twice, as in the demo
    mean = float(sums[nearest] / WINDOW)
    emitted = mean < threshold
    return Cut(emitted, first, stop, first + int(loudness[first:stop].argmin()) if emitted else -1, mean)
