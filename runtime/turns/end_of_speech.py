"""Where the speech in a recording ends: what a person who labels it by ear and by its picture would mark.

Windows of 16 ms are cut into bands and weighted as the ear hears (A-weighting, IEC 61672). The recording's own noise is
the mean of its quietest windows, band by band. Speech ends with the last 16 ms that stand out of that noise and are at
most 29 dB below the loud parts of the speech. Neither a noise floor nor silence behind the speech moves that end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNSURE_DB", "EndOfSpeech", "end_of_speech"]

WINDOW_S, HOP_S = 0.016, 0.002
SMOOTHED, RUN = 12, 8
"""Windows that are averaged, and that have to stand out in a row."""
BANDS, LOWEST_HZ, HIGHEST_HZ = 16, 100.0, 7600.0
FADED_DB = 29.0
"""Below the loud parts of the speech: what is quieter is heard as its decay."""
QUIET_SHARES = (0.15, 0.08, 0.04)
"""Of the windows: the quietest, which are taken for the noise where they are alike enough to be one."""
ALIKE = 0.5
"""Scatter (nepers of power, median band) up to which windows are alike: 0.2 to 0.45 of steady noise, 1.5 of speech."""
LOUDEST, LOUD_PERCENT = 25, 50
"""The loudest windows may be a click. Of what is within 30 dB of the others, this percentile is the speech's level."""
CHANCE = 3.0
"""Standard deviations of the noise above which a window stands out."""
SPREAD_S = 0.007
"""By which windows and their averages carry an end outwards."""
SILENCE = 1e-14
"""Power that is added everywhere, so that digital silence has a logarithm."""
BLOCK = 4096
"""Windows that are transformed at once."""
UNSURE_DB = 17.0
"""With less between speech and noise, a soft last sound may drown, and the end is marked too early."""


@dataclass(frozen=True)
class EndOfSpeech:
    """Where speech ends."""

    at_s: float
    """Seconds from the beginning of the recording."""
    above_noise_db: float
    """Level of the loud parts of the speech above the noise; infinite over digital silence."""

    @property
    def sure(self) -> bool:
        """The noise is low enough to mark the end to within 20 ms."""
        return self.above_noise_db >= UNSURE_DB


def end_of_speech(samples: NDArray[np.float32], sample_rate_hz: int) -> EndOfSpeech | None:
    """The end of the speech in float32 [n], full scale 1.0; None when nothing stands out of the noise."""
    powers = _band_powers(samples, sample_rate_hz)
    if not len(powers):
        return None
    noise, deviation = _noise(powers)
    speech = np.maximum(powers - 1.5 * noise, 0).sum(1)
    loud = _loud(speech)
    audible = (deviation > 0) & (speech > loud * 10 ** (-FADED_DB / 10))
    last = _last_run(audible)
    if loud <= 0 or last is None:
        return None
    end_s = last * HOP_S + WINDOW_S / 2 - SPREAD_S if last < len(audible) - 1 else samples.size / sample_rate_hz
    floor = float(noise.sum())
    above_db = 10 * float(np.log10(loud / floor)) if floor > 1e-10 else float("inf")
    return EndOfSpeech(float(np.clip(end_s, 0.0, samples.size / sample_rate_hz)), above_db)


def _loud(speech: NDArray[np.float64]) -> float:
    """Power of the loud parts, however long the silence around them is, and whatever clicks there are."""
    top = np.sort(speech)[-min(LOUDEST, len(speech))]
    return float(np.percentile(speech[speech >= top / 1000], LOUD_PERCENT))


def _band_powers(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """float64 [windows, BANDS]: A-weighted power, averaged over neighbouring windows."""
    rows = list(_transformed(samples, rate_hz))
    if not rows:
        return np.zeros((0, BANDS))
    powers = np.concatenate(rows)
    kernel = np.ones(SMOOTHED) / SMOOTHED
    return np.stack([np.convolve(band, kernel, "same")[: len(powers)] for band in powers.T], 1) + SILENCE


def _transformed(samples: NDArray[np.float32], rate_hz: int) -> Iterator[NDArray[np.float64]]:
    length = round(WINDOW_S * rate_hz)
    size = 1 << max(length - 1, 1).bit_length()
    shape = np.hanning(length + 1)[:length]
    hertz = np.fft.rfftfreq(size, 1 / rate_hz)
    weights = 2 * _heard(hertz) / (np.sum(shape**2) * size)
    edges = np.round(_mel_edges(min(HIGHEST_HZ, 0.46 * rate_hz)) * size / rate_hz).astype(int)
    starts = np.arange(0, samples.size - length + 1, HOP_S * rate_hz).astype(int)
    for first in range(0, len(starts), BLOCK):
        windows = samples[starts[first : first + BLOCK, None] + np.arange(length)]
        power = np.abs(np.fft.rfft(windows * shape, size)) ** 2 * weights
        yield np.stack([power[:, low : max(high, low + 1)].sum(1) for low, high in itertools.pairwise(edges)], 1)


def _noise(powers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64 [BANDS]: the noise; float64 [windows]: how far each stands out of it, above 0 where it is no noise.

    A recording that is cut so tightly that no window is without speech has no noise to stand out of.
    """
    for share in QUIET_SHARES:
        low = np.quantile(powers, share, axis=0)
        height = np.log(powers / low).mean(1)
        quiet = height <= np.quantile(height, share)
        if np.median(np.log(powers[quiet] / powers[quiet].mean(0)).std(0)) <= ALIKE:
            noise, outstanding = _against(powers, quiet)
            rest = outstanding < 0  # the quietest were only the lower half of the noise
            return _against(powers, rest) if rest.sum() > quiet.sum() else (noise, outstanding)
    return np.full(BANDS, SILENCE), np.ones(len(powers))


def _against(powers: NDArray[np.float64], quiet: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of the ``quiet`` windows, and how far each window is above what noise does by chance."""
    noise: NDArray[np.float64] = powers[quiet].mean(0)
    above = np.log(powers / noise)
    height = np.maximum(above, 0).mean(1) + above.max(1) / 6
    usual, scatter = float(np.median(height[quiet])), float(height[quiet].std())
    return noise, height - (usual + CHANCE * (scatter + 0.02) + 0.1)


def _last_run(audible: NDArray[np.bool_]) -> int | None:
    """The last window of the last RUN audible ones in a row."""
    if len(audible) < RUN:
        return len(audible) - 1 if len(audible) and audible.all() else None
    runs = np.flatnonzero(np.convolve(audible, np.ones(RUN), "valid") >= RUN)
    return int(runs[-1]) + RUN - 1 if len(runs) else None


def _heard(hertz: NDArray[np.floating]) -> NDArray[np.float64]:
    """A-weighting of powers, 1 at 1 kHz."""
    f = np.maximum(hertz, 1.0) ** 2
    gain = 12_194**2 * f**2 / ((f + 20.6**2) * np.sqrt((f + 107.7**2) * (f + 737.9**2)) * (f + 12_194**2))
    return np.asarray((gain / 0.7943) ** 2, np.float64)


def _mel_edges(highest_hz: float) -> NDArray[np.float64]:
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (LOWEST_HZ, highest_hz))
    return np.asarray(700 * (10 ** (np.linspace(low, high, BANDS + 1) / 2595) - 1), np.float64)
