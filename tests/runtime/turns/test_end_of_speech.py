"""The end of speech: within 20 ms of the label at several noise floors and colours, with silence behind it or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.runtime import read_sound
from vita_edge.runtime.turns.end_of_speech import end_of_speech

CLIPS = Path(__file__).resolve().parents[2] / "data" / "labelled_speech"
LABELS: dict[str, float] = json.loads((CLIPS / "labels.json").read_text("utf-8"))
"""Recording → where its speech ends, in seconds: marked in the clean recording, by its picture."""


def noise(kind: str, n: int, seed: int) -> NDArray[np.float64]:
    """Float64 [n] of root mean square 1; its power falls with the frequency (pink) or its square (brown)."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    bins = np.maximum(np.arange(len(spectrum)), n / 400)
    coloured = np.fft.irfft(spectrum / bins ** {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind], n)
    return np.asarray(coloured / np.sqrt(np.mean(coloured**2)))


def placed(
    name: str, floor_db: float | None, kind: str = "white", tail_s: float = 0.6
) -> tuple[NDArray[np.float32], int]:
    """A clip at half of full scale, 0.3 s after the beginning, in noise of ``floor_db`` below its peak."""
    sound = read_sound(CLIPS / name)
    rate, speech = sound.sample_rate_hz, sound.heard_channel / np.abs(sound.heard_channel).max() / 2
    samples = np.concatenate([np.zeros(round(0.3 * rate)), speech, np.zeros(round(tail_s * rate))])
    if floor_db is not None:
        samples += 0.5 * 10 ** (floor_db / 20) * noise(kind, len(samples), seed=len(name))
    return samples.astype(np.float32), rate


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("floor_db", [None, -60.0, -50.0, -44.0, -40.0])
@pytest.mark.parametrize("kind", ["white", "pink", "brown"])
def test_the_end_is_within_20_ms_of_the_label_whatever_the_noise(name: str, floor_db: float | None, kind: str) -> None:
    for tail_s in (0.3, 1.0):
        samples, rate = placed(name, floor_db, kind, tail_s)
        found = end_of_speech(samples, rate)
        assert found is not None and (found.sure or floor_db == -40.0)
        assert found.at_s - 0.3 == pytest.approx(LABELS[name], abs=0.020)


@pytest.mark.parametrize("name", LABELS)
def test_a_recording_that_is_cut_at_the_end_of_speech_ends_there(name: str) -> None:
    sound = read_sound(CLIPS / name)
    samples = sound.heard_channel[: round(LABELS[name] * sound.sample_rate_hz)]
    found = end_of_speech(samples, sound.sample_rate_hz)
    assert found is not None and found.at_s == pytest.approx(LABELS[name], abs=0.020)


@pytest.mark.parametrize("name", LABELS)
def test_in_much_noise_the_end_is_called_unsure(name: str) -> None:
    samples, rate = placed(name, -22.0)
    found = end_of_speech(samples, rate)
    assert found is None or not found.sure


def test_where_nothing_is_said_there_is_no_end() -> None:
    assert end_of_speech(np.zeros(16_000, np.float32), 16_000) is None
    assert end_of_speech(np.zeros(3, np.float32), 16_000) is None
    hiss = noise("white", 32_000, seed=1).astype(np.float32) / 100
    found = end_of_speech(hiss, 16_000)
    assert found is None or not found.sure


def test_a_long_recording_takes_little_memory_and_time() -> None:
    samples, rate = placed(next(iter(LABELS)), -50.0, tail_s=120.0)
    found = end_of_speech(samples, rate)
    assert found is not None and found.at_s - 0.3 == pytest.approx(LABELS[next(iter(LABELS))], abs=0.020)
