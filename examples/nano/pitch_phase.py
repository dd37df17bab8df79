"""Bend a voice in time, by less than can be heard, so that its pitch keeps step with the codes.

A code stands for 25 ms and says nothing of where in them a period of the voice begins, so a generator that is trained
on any voice has to guess, and what it guesses is hoarse. Here the voice is stretched and squeezed by a few percent
until each frame holds a whole number of quarter periods. Then the phase at the start of a frame is one of
four, a part of the code, and the waveform follows from the codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import binary_closing, binary_opening, median_filter
from scipy.signal import resample_poly

__all__ = ["PHASES", "UNVOICED", "Frames", "in_step"]

Floats = NDArray[np.float64]

RATE_HZ = 24000
FRAME = 600
PHASES = 4
UNVOICED = -1

LOWEST_HZ, HIGHEST_HZ = 135.0, 235.0
HOP_S = 0.005
WINDOW_S = 0.03
VOICED_CORRELATION = 0.55
QUIET = 1e-3
"""Root mean square below which nothing is voiced."""
FINE = 4
"""The wave is read between its samples: it is first made this much denser."""


@dataclass(frozen=True)
class Frames:
    """A sentence in step: ``wave`` float32 [600 n] at 24 kHz, ``phase`` int64 [n], 0 to 3 quarters or ``UNVOICED``."""

    wave: NDArray[np.float32]
    phase: NDArray[np.int64]


def in_step(samples: NDArray[np.float32], rate_hz: int) -> Frames:
    """Bend ``samples``, float32 [n] at ``rate_hz``; the last frame is filled with silence."""
    dense = resample_poly(samples.astype(np.float64), FINE * RATE_HZ // 1000, rate_hz // 1000)
    times, pitch, voiced = _pitch(samples.astype(np.float64), rate_hz)
    turns = _turns(samples.astype(np.float64), rate_hz, times, pitch)
    clock = np.arange(len(samples)) / rate_hz

    def turns_at(t: float) -> float:
        return float(np.interp(t, clock, turns))

    def time_of(turn: float) -> float:
        return float(np.interp(turn, turns, clock))

    def is_voiced(t: float) -> bool:
        return bool(voiced[min(round(t / HOP_S), len(voiced) - 1)])

    frame_s = FRAME / RATE_HZ
    end = len(samples) / rate_hz
    starts, phase, held, last = [0.0], [], False, 0.0
    while starts[-1] < end:
        here, following = starts[-1], starts[-1] + frame_s
        if not is_voiced(following) and not (held and is_voiced(here + frame_s / 2)):
            phase.append(_quarter(turns_at(here)) if held else UNVOICED)
            starts.append(following)
            held = False
            continue
        if held:
            advance = turns_at(following) - turns_at(here)
            if abs(advance - last) > 0.75 / PHASES:  # the pitch climbs in steps: it does not waver between two
                last = round(advance * PHASES) / PHASES
            target = turns_at(here) + last
            phase.append(_quarter(turns_at(here)))
        else:
            target = round(turns_at(following) * PHASES) / PHASES
            last = round((turns_at(following + frame_s) - turns_at(following)) * PHASES) / PHASES
            phase.append(_quarter(target))
        starts.append(time_of(target))
        held = True
    bend = PchipInterpolator(FRAME * np.arange(len(starts)), starts)
    source = bend(np.arange(FRAME * len(phase))) * RATE_HZ * FINE
    wave = np.interp(source, np.arange(len(dense)), dense, right=0.0)
    return Frames(wave.astype(np.float32), np.array(phase, np.int64))


def _quarter(turn: float) -> int:
    return round(turn * PHASES) % PHASES


def _pitch(samples: Floats, rate_hz: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Times in seconds, pitch in Hz and whether there is one, every 5 ms: the best of the normalised correlations."""
    size, hop = int(WINDOW_S * rate_hz), int(HOP_S * rate_hz)
    shortest, longest = int(rate_hz / HIGHEST_HZ), int(rate_hz / LOWEST_HZ) + 1
    padded = np.pad(samples, (size // 2, size // 2 + longest + hop))
    count = len(samples) // hop + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, size + longest)[: count * hop : hop][:count]
    windows = windows - windows.mean(axis=1, keepdims=True)
    head = windows[:, :size]
    energy = (head**2).sum(axis=1)
    correlations = np.stack(
        [
            (head * windows[:, lag : lag + size]).sum(axis=1)
            / np.sqrt(energy * (windows[:, lag : lag + size] ** 2).sum(axis=1) + 1e-9)
            for lag in range(shortest, longest + 1)
        ],
        axis=1,
    )
    best = correlations.argmax(axis=1)
    strength = correlations.max(axis=1)
    voiced = (strength > VOICED_CORRELATION) & (np.sqrt(energy / size) > QUIET)
    voiced = binary_opening(binary_closing(voiced, iterations=2), iterations=3)
    pitch = rate_hz / (best + shortest)
    times = np.arange(len(best)) * HOP_S
    if voiced.any():
        pitch = np.interp(times, times[voiced], median_filter(pitch[voiced], 7))
    return times, pitch, voiced


def _turns(samples: Floats, rate_hz: int, times: Floats, pitch: Floats) -> Floats:
    """Periods of the fundamental since the start, growing with every sample: float64 [n].

    The pitch is only known roughly; what is missing is read off the fundamental itself, brought down to 0 Hz by it.
    """
    clock = np.arange(len(samples)) / rate_hz
    rough = np.cumsum(np.interp(clock, times, pitch)) / rate_hz
    window = np.hanning(int(0.022 * rate_hz))
    fundamental = np.convolve(samples * np.exp(-2j * np.pi * rough), window, mode="same")
    turns = rough + np.unwrap(np.angle(fundamental)) / (2 * np.pi)
    return np.maximum.accumulate(turns + 1e-9 * np.arange(len(turns)))
