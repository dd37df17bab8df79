"""How the last words of a turn were said: pitch, length, level, rate and colour.

Sentences that are over fall in pitch and level; somebody who is going on holds both, and draws out the last syllable.
How long the turn has lasted, and whether there was a pause before, are left out on purpose: in a made set they tell
where a sentence was cut, and in a real talk nothing.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEATURES", "features"]

RATE_HZ, HOP, WINDOW = 16_000, 160, 640
"""Frames of 40 ms every 10 ms."""
HEARD_S = 6.0
LOWEST_HZ, HIGHEST_HZ = 65, 420
VOICED = 0.45
"""Height of the peak of the normalised autocorrelation from which a frame has a pitch."""
FLOOR_DB = 24.0
"""Below the loud parts: a quieter frame is silence."""
Array = NDArray[np.float64]

FEATURES = (
    "last voiced run, s",
    "last voiced run against the others",
    "unvoiced end, s",
    "pitch at the end, semitones from the median",
    "pitch at the end, semitones from the lowest",
    "fall of pitch in 200 ms, semitones",
    "fall of pitch in 500 ms, semitones",
    "range of pitch, semitones",
    "pitch is known at the end",
    "level of the last 60 ms, dB",
    "level of the last 150 ms, dB",
    "level of the last 400 ms, dB",
    "fall of level in 300 ms, dB",
    "syllables a second",
    "syllables a second, last 800 ms",
    "last syllable, s",
    "brightness of the last 80 ms",
    "brightness of the last 250 ms",
    "change of the spectrum in the last 200 ms",
    "height of the voicing in the last 150 ms",
)
"""Names of the features, in the order of :func:`features`."""


def features(turn: NDArray[np.float32]) -> Array:
    """float64 [20] of float32 [n] at 16 kHz, which ends in the silence that has just begun."""
    if turn.size < WINDOW:
        return np.zeros(len(FEATURES))
    frames = _frames(turn[-round(HEARD_S * RATE_HZ) :])
    level = 10 * np.log10(np.mean(frames[:, 160:480] ** 2, 1) + 1e-10)
    loud = float(np.percentile(level, 95))
    speech = level > loud - FLOOR_DB
    if not speech.any():
        return np.zeros(len(FEATURES))
    last = int(np.flatnonzero(speech)[-1])
    frames, level, speech = frames[: last + 1], level[: last + 1] - loud, speech[: last + 1]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), 1024)) ** 2
    pitch, height = _pitch(power, speech)
    return np.array(
        [
            *_runs(np.isfinite(pitch)),
            *_melody(pitch),
            *(float(level[-n:].mean()) for n in (6, 15, 40)),
            _fall(level[-30:]),
            *_syllables(level),
            *_brightness(power),
            float(height[-15:].mean()),
        ]
    )


def _frames(samples: NDArray[np.float32]) -> Array:
    padded = np.pad(samples.astype(np.float64), (WINDOW, 0))
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[HOP::HOP]


def _pitch(power: Array, speech: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Semitones of each frame, NaN where it has no pitch; and how periodic it is, 0 to 1."""
    window = np.correlate(np.hanning(WINDOW), np.hanning(WINDOW), "full")[WINDOW - 1 :]
    along = np.fft.irfft(power)[:, : WINDOW // 2 + 2]
    along = along / (along[:, :1] + 1e-12) * (window[0] / window[: along.shape[1]])
    low, high = RATE_HZ // HIGHEST_HZ, RATE_HZ // LOWEST_HZ
    reach = along[:, low:high]
    best = reach.max(1, keepdims=True)
    lag = np.argmax(reach > 0.9 * best, 1)  # the first of peaks that are nearly as high: no octave too low
    for _ in range(8):  # and up to the top of that peak
        step = np.minimum(lag + 4, reach.shape[1] - 1)
        rows = np.arange(len(lag))
        lag = np.where(reach[rows, step] > reach[rows, lag], step, lag)
    height = np.clip(best[:, 0], 0, 1)
    voiced = speech & (height > VOICED)
    semitones = 12 * np.log2(RATE_HZ / (lag + low) / 100)
    return np.where(voiced, semitones, np.nan), height


def _runs(voiced: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Seconds of the last voiced run, its length against that of the others, and what follows it without voicing."""
    runs = [n for voice, n in _stretches(voiced) if voice and n >= 3]
    unvoiced = len(voiced) - 1 - int(np.flatnonzero(voiced)[-1]) if voiced.any() else len(voiced)
    last = runs[-1] if runs else 0
    usual = float(np.mean(runs[:-1])) if len(runs) > 1 else float(last or 1)
    return last / 100, float(np.log((last + 1) / (usual + 1))), min(unvoiced, 100) / 100


def _melody(pitch: Array) -> tuple[float, float, float, float, float, float]:
    known = pitch[np.isfinite(pitch)]
    if len(known) < 5:
        return (0.0,) * 6
    recent = pitch[-60:]
    places = np.flatnonzero(np.isfinite(recent))
    if len(places) < 4:
        return 0.0, 0.0, 0.0, 0.0, float(np.percentile(known, 90) - np.percentile(known, 10)), 0.0
    values = recent[places]
    end = float(np.median(values[-5:]))
    return (
        end - float(np.median(known)),
        end - float(np.percentile(known, 5)),
        _fall(values[-20:]),
        _fall(values[-50:]),
        float(np.percentile(known, 90) - np.percentile(known, 10)),
        1.0,
    )


def _fall(values: Array) -> float:
    """By how much a straight line through the values falls."""
    if len(values) < 3:
        return 0.0
    x = np.arange(len(values)) - (len(values) - 1) / 2
    return float(-(x @ values) / (x @ x) * (len(values) - 1))


def _syllables(level: Array) -> tuple[float, float, float]:
    """Rate of all, rate of the last 800 ms, and seconds since the last peak before the end began to rise."""
    smooth = np.convolve(level, np.hanning(9) / np.hanning(9).sum(), "same")
    rising = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & (smooth[1:-1] > -18)
    peaks = np.flatnonzero(rising) + 1
    peaks = peaks[np.diff(peaks, prepend=-20) > 7]
    valley = int(np.argmin(smooth[peaks[-2] : peaks[-1] + 1])) + int(peaks[-2]) if len(peaks) > 1 else 0
    spoken = max(float((smooth > -FLOOR_DB).sum()), 20) / 100
    return len(peaks) / spoken, float((peaks > len(level) - 80).sum()) / 0.8, min(len(level) - valley, 100) / 100


def _brightness(power: Array) -> tuple[float, float, float]:
    """Where the middle of the spectrum is (logarithm of kHz) at the end and a little before, and how it changes."""
    hertz = np.linspace(0, RATE_HZ / 2, power.shape[1]) / 1000
    shares = power / (power.sum(1, keepdims=True) + 1e-12)
    middle = np.log(shares @ hertz + 0.05)
    change = np.abs(np.diff(np.sqrt(shares[-20:]), axis=0)).sum(1).mean() if len(shares) > 1 else 0.0
    return float(middle[-8:].mean()), float(middle[-25:].mean()), float(change)


def _stretches(flags: NDArray[np.bool_]) -> list[tuple[bool, int]]:
    """(value, how often in a row), from the first to the last."""
    edges = np.flatnonzero(np.diff(flags)) + 1
    bounds = [0, *edges.tolist(), len(flags)]
    return [(bool(flags[a]), b - a) for a, b in itertools.pairwise(bounds) if b > a]
