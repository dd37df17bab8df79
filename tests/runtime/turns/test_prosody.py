"""Prosody: pitch is measured right, a fall is told from a rise, and the detector takes whatever it is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.runtime import read_sound
from vita_edge.runtime.turns.own_detector import WEIGHTS, OwnDetector, both
from vita_edge.runtime.turns.prosody import FEATURES, features

DATA = Path(__file__).resolve().parents[2] / "data" / "labelled_speech"


def voice(from_hz: float, to_hz: float, seconds: float = 1.2) -> NDArray[np.float32]:
    """Buzzing that glides in its last 400 ms, in syllables of 200 ms, with 100 ms of silence behind."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    glide = np.clip((t - seconds + 0.4) / 0.4, 0, 1)
    phase = 2 * np.pi * np.cumsum(from_hz * (to_hz / from_hz) ** glide) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.cos(2 * np.pi * 5 * t))
    samples = np.concatenate([0.2 * buzz, np.zeros(1600)])
    return (samples + 1e-4 * np.random.default_rng(0).standard_normal(samples.size)).astype(np.float32)


def heard(samples: NDArray[np.float32]) -> dict[str, float]:
    return dict(zip(FEATURES, features(samples).tolist(), strict=True))


@pytest.mark.parametrize("semitones", [-7.0, -3.0, 4.0, 8.0])
def test_the_end_of_the_melody_is_measured_in_semitones(semitones: float) -> None:
    found = heard(voice(150, 150 * 2 ** (semitones / 12)))
    assert found["pitch at the end, semitones from the median"] == pytest.approx(semitones, abs=1.2)
    assert found["fall of pitch in 200 ms, semitones"] == pytest.approx(-semitones / 2, abs=1.5)
    assert found["pitch is known at the end"] == 1.0


@pytest.mark.parametrize("hertz", [90.0, 150.0, 240.0, 330.0])
def test_the_pitch_of_a_level_voice_does_not_move(hertz: float) -> None:
    found = heard(voice(hertz, hertz))
    assert abs(found["range of pitch, semitones"]) < 0.5


def test_silence_noise_and_scraps_give_numbers() -> None:
    random = np.random.default_rng(0)
    for samples in (
        np.zeros(16_000),
        random.standard_normal(16_000) / 10,
        random.standard_normal(200) / 10,
        np.ones(5_000),
        np.zeros(0),
    ):
        found = features(samples.astype(np.float32))
        assert found.shape == (len(FEATURES),) and np.isfinite(found).all()
        assert 0 <= OwnDetector().probability(samples.astype(np.float32)) <= 1


def test_the_weights_are_for_these_features_and_tell_turns_apart() -> None:
    assert json.loads(WEIGHTS.read_text("utf-8"))["features"] == list(FEATURES)
    detector = OwnDetector()
    reported = [detector.probability(read_sound(path).heard_channel) for path in sorted(DATA.glob("flite-*.flac"))]
    assert max(reported) - min(reported) > 0.05


def test_two_detectors_have_half_a_vote_each() -> None:
    assert both(0.9, 0.1) == pytest.approx(0.5)
    assert both(0.8, 0.8) == pytest.approx(0.8)
    assert 0 < both(0.0, 0.0) < 0.01 and 0.99 < both(1.0, 1.0) < 1
