"""Percentiles and differences, on series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from vita_edge.runtime.metrics.statistics import Summary, difference, summary


def series(seed: int, n: int, middle: float = 700.0, spread: float = 30.0) -> list[float]:
    return list(np.random.default_rng(seed).normal(middle, spread, n))


def test_a_summary_counts_what_is_known() -> None:
    assert summary([3.0, None, 1.0, 2.0]) == Summary(n=3, p50=2.0, p95=3.0, minimum=1.0, maximum=3.0)
    assert summary([None]) is None and summary([]) is None


def test_a_shift_is_found_paired_or_not() -> None:
    first = series(1, 30)
    shifted = [value - 60 for value in first]
    for paired in (True, False):
        found = difference(first, shifted, paired=paired)
        assert found.chance < 0.001
        assert found.median == pytest.approx(-60)
        assert found.low <= -60 <= found.high < 0


def test_pairs_show_what_the_spread_of_the_questions_hides() -> None:
    first = series(2, 30, spread=300.0)
    shifted = [value + 15 + noise for value, noise in zip(first, series(3, 30, 0.0, 5.0))]
    assert difference(first, shifted, paired=True).chance < 0.001
    assert difference(first, shifted, paired=False).chance > 0.1


@pytest.mark.parametrize("paired", [True, False])
def test_chance_alone_is_seldom_taken_for_a_difference(paired: bool) -> None:
    found = [difference(series(seed, 20), series(1000 + seed, 20), paired=paired).chance for seed in range(100)]
    assert sum(chance < 0.05 for chance in found) <= 10
    assert 0.35 < float(np.mean(found)) < 0.65


def test_one_outlier_decides_nothing() -> None:
    first = series(4, 30)
    assert difference(first, [*first[:-1], 60_000.0], paired=True).chance > 0.5


def test_equal_series_do_not_differ() -> None:
    for paired in (True, False):
        found = difference([38.0] * 10, [38.0] * 10, paired=paired)
        assert (found.chance, found.median, found.low, found.high) == (1.0, 0.0, 0.0, 0.0)


def test_the_same_numbers_have_the_same_verdict() -> None:
    first, second = series(5, 12), series(6, 14)
    assert difference(first, second, paired=False) == difference(first, second, paired=False)


def test_so_few_numbers_cannot_tell() -> None:
    assert difference([1, 2, 3], [11, 12, 13], paired=True).min_chance == 0.25
    assert difference([1, 2, 3], [11, 12, 13], paired=False).min_chance == 0.1


@pytest.mark.parametrize(("first", "second"), [([], [1.0]), ([1.0], [1.0, 2.0])])
def test_what_has_no_partner_is_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        difference(first, second, paired=True)
