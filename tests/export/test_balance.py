"""Outlying columns go into the norm before a matrix is rounded; what both compute stays the same to the bit."""

from __future__ import annotations

import numpy as np

from vita_edge.export.weights.balance import balanced
from vita_edge.export.weights.weight import Floats, computed

RANDOM = np.random.default_rng(5)


def matrix(rows: int, outlier: float) -> Floats:
    values = RANDOM.standard_normal((rows, 64)).astype(np.float32)
    values[:, 7] *= np.float32(outlier)
    return values


def both(gain: Floats, *matrices: Floats) -> tuple[Floats, list[Floats]]:
    new, others = balanced(computed(gain.shape, lambda: gain), *(computed(m.shape, lambda m=m: m) for m in matrices))
    return new.read(), [other.read() for other in others]


def test_the_product_is_the_same_and_the_columns_are_alike() -> None:
    gain, q, k = np.ones(64, np.float32), matrix(32, 1024.0), matrix(16, 700.0)
    new, (left, right) = both(gain, q, k)
    for before, after in ((q, left), (k, right)):
        np.testing.assert_array_equal(after * new, before * gain)
    assert np.abs(left).max(axis=0)[7] < 3 * np.median(np.abs(left).max(axis=0))
    assert new[7] == 2.0 ** round(np.log2(new[7])) > 1
    assert (np.delete(new, 7) == 1).all()


def test_a_matrix_without_outliers_is_left_as_it_is() -> None:
    gain, usual = RANDOM.standard_normal(64).astype(np.float32), matrix(32, 6.0)
    new, (same,) = both(gain, usual)
    np.testing.assert_array_equal(new, gain)
    np.testing.assert_array_equal(same, usual)


def test_rounding_to_eight_bits_keeps_the_other_columns() -> None:
    """With the outlier in place, a row's scale leaves one step for all others."""
    values = matrix(32, 4096.0)
    _, (alike,) = both(np.ones(64, np.float32), values)

    def noise(weights: Floats) -> float:
        scale = np.abs(weights).max(axis=1, keepdims=True) / 127
        rounded = np.rint(weights / scale) * scale
        others = np.arange(64) != 7
        return float(np.square((rounded - weights)[:, others]).sum() / np.square(weights[:, others]).sum())

    assert noise(values) > 0.5
    assert noise(alike) < 0.001
