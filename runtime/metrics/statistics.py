"""Numbers of many turns: percentiles by nearest rank, and whether two series differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "Summary", "difference", "nearest_rank", "summary"]

SHUFFLES = 10_000
RESAMPLES = 4_000
SEED = 20_061  # same numbers, same verdict


@dataclass(frozen=True)
class Summary:
    """A series in a few numbers, with how many there were."""

    n: int
    p50: float
    p95: float
    """At the worse end: 95 % of the series are no worse."""
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Difference:
    """What separates a second series from a first one."""

    n: tuple[int, int]
    paired: bool
    median: float
    """Median of the differences when paired, else difference of the medians; second minus first."""
    low: float
    high: float
    """A bootstrap interval of 95 % around ``median``."""
    chance: float
    """How often shuffled series are at least as far apart (the p-value)."""
    min_chance: float
    """The smallest ``chance`` that so few numbers can have."""


def nearest_rank(n: int, share: float) -> int:
    """Index, of ``n`` sorted values, of the first that a ``share`` of them do not exceed: each percentile is a value.

    Of fewer than 20 values the last one is the p95.
    """
    return max(math.ceil(share * n - 1e-9) - 1, 0)


def summary(values: Iterable[float | None], better: Literal["less", "more"] = "less") -> Summary | None:
    """Percentiles of what is not None, by nearest rank; None when nothing is."""
    known = sorted((value for value in values if value is not None), reverse=better == "more")
    if not known:
        return None
    p50, p95 = (round(float(known[nearest_rank(len(known), share)]), 4) for share in (0.50, 0.95))
    return Summary(len(known), p50, p95, float(min(known)), float(max(known)))


def difference(first: Sequence[float], second: Sequence[float], *, paired: bool) -> Difference:
    """Compare two series by ranks, so that one outlier decides nothing.

    Paired, the signs of the differences are shuffled (Wilcoxon's signed ranks); else the members of the two series are
    (Mann and Whitney's rank sums).

    Raises:
        ValueError: a series is empty, or paired series have different lengths.
    """
    a, b = np.array(first, np.float64), np.array(second, np.float64)
    if not a.size or not b.size or (paired and a.size != b.size):
        raise ValueError(f"{a.size} and {b.size} numbers cannot be compared")
    random = np.random.default_rng(SEED)
    if paired:
        chance, minimum = _signed_ranks(b - a, random), 2.0 ** (1 - a.size)
        median = np.median(b - a)
        drawn = np.median(_resampled(b - a, random), axis=1)
    else:
        chance, minimum = _rank_sums(a, b, random), 2.0 / math.comb(a.size + b.size, a.size)
        median = np.median(b) - np.median(a)
        drawn = np.median(_resampled(b, random), axis=1) - np.median(_resampled(a, random), axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    minimum = max(minimum, 1 / (SHUFFLES + 1))
    return Difference((a.size, b.size), paired, float(median), float(low), float(high), chance, minimum)


def _signed_ranks(differences: NDArray[np.float64], random: np.random.Generator) -> float:
    moved = differences[differences != 0]
    if not moved.size:
        return 1.0
    ranks = _ranks(np.abs(moved))
    found = abs(float(ranks @ np.sign(moved)))
    signs = random.choice((-1.0, 1.0), (SHUFFLES, moved.size))
    return _share(np.abs(signs @ ranks), found)


def _rank_sums(a: NDArray[np.float64], b: NDArray[np.float64], random: np.random.Generator) -> float:
    ranks = _ranks(np.concatenate([a, b]))
    ranks -= ranks.mean()
    found = abs(float(ranks[a.size :].sum()))
    shuffled = random.permuted(np.tile(ranks, (SHUFFLES, 1)), axis=1)
    return _share(np.abs(shuffled[:, a.size :].sum(axis=1)), found)


def _share(shuffled: NDArray[np.float64], found: float) -> float:
    """Share of shuffles at least as extreme as what was found, which counts as one of them."""
    return float((1 + (shuffled >= found - 1e-9).sum()) / (1 + shuffled.size))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)


def _resampled(values: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """float64 [RESAMPLES, n]: drawn from ``values`` with replacement."""
    return values[random.integers(0, values.size, (RESAMPLES, values.size))]
