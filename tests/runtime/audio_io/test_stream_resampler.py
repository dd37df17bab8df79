"""A stream at another rate: the same sound, however it is cut, a millisecond late; and clocks without jitter."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.runtime.audio_io.sample_clock import SampleClock
from vita_edge.runtime.audio_io.stream_resampler import StreamResampler

RATES = [(48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (24_000, 48_000), (24_000, 44_100), (16_000, 16_000)]


def sine(hz: float, rate_hz: int, count: int) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(count) / rate_hz)).astype(np.float32)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_a_tone_stays_that_tone_at_its_time(from_hz: int, to_hz: int) -> None:
    result = StreamResampler(from_hz, to_hz).step(sine(1000, from_hz, from_hz))
    expected = sine(1000, to_hz, result.size)
    edge = to_hz // 100
    assert np.abs(result - expected)[edge:].max() < 5e-4


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_pieces_joined_are_the_whole(from_hz: int, to_hz: int) -> None:
    random = np.random.default_rng(0)
    samples = random.normal(0, 0.1, from_hz // 4).astype(np.float32)
    whole = StreamResampler(from_hz, to_hz).step(samples)
    resampler = StreamResampler(from_hz, to_hz)
    cuts = np.sort(random.integers(0, samples.size, 60))
    pieces = [resampler.step(piece) for piece in np.split(samples, cuts)]
    assert any(piece.size == 0 for piece in np.split(samples, cuts)) or np.diff(cuts).min() > 0
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_it_holds_back_little_and_knows_how_much(from_hz: int, to_hz: int) -> None:
    resampler = StreamResampler(from_hz, to_hz)
    given = 0
    for _ in range(50):
        given += resampler.step(np.zeros(from_hz // 100, np.float32)).size
        assert 0 <= resampler.pending_s < 0.0025
    assert given / to_hz == pytest.approx(0.5 - resampler.pending_s)


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    resampler = StreamResampler(48_000, 16_000)
    assert np.abs(resampler.step(sine(9_000, 48_000, 24_000))[100:]).max() < 1e-3
    assert np.abs(StreamResampler(48_000, 16_000).step(sine(6_500, 48_000, 24_000))[100:]).max() > 0.45


def test_a_sample_clock_follows_without_the_jitter_of_its_measurements() -> None:
    random = np.random.default_rng(0)
    clock = SampleClock(48_000)
    drift = 1 + 50e-6
    times = [clock.step(480, i * 0.01 * drift + abs(random.normal(0, 0.003))) for i in range(2000)]
    assert np.abs(np.diff(times)[500:] - 0.01).max() < 0.0004
    assert 0 < times[-1] - 1999 * 0.01 * drift < 0.006


def test_a_sample_clock_jumps_over_a_gap() -> None:
    clock = SampleClock(48_000)
    for i in range(10):
        clock.step(480, i * 0.01)
    assert clock.step(480, 5.0) == 5.0
