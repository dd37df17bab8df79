"""From sound to the filter bank."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import AudioFacts
from vita_edge.engines.errors import BadInput
from vita_edge.runtime.audio_io.sound import Sound
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "tiny-a" / "data"
FLOOR = math.log(2.0**-23)


@pytest.fixture
def frontend() -> AudioFrontEnd:
    return AudioFrontEnd(
        AudioFacts(
            sample_rate_hz=16000,
            mel_bins=80,
            frame_length_ms=25.0,
            frame_shift_ms=10.0,
            adapter_kernel=5,
            prompt_rows=0,
            chunk_size=4,
            left_chunks=3,
        )
    )


def noise(samples: int) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(3).standard_normal(samples)).astype(np.float32)


def filter_bank(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Specification 5.2, step by step, in double precision."""
    x = samples.astype(np.float64) * 32768
    frames = np.stack([x[start : start + 400] for start in range(0, len(x) - 399, 160)])
    frames -= frames.mean(axis=1, keepdims=True)
    frames -= 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames *= (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    mel = 1127 * np.log(1 + 16000 * np.arange(257) / 512 / 700)
    low, high = 1127 * math.log(1 + 20 / 700), 1127 * math.log(1 + 8000 / 700)
    step = (high - low) / 81
    left = low + np.arange(80)[:, None] * step
    triangles = np.maximum(np.minimum((mel - left) / step, (left + 2 * step - mel) / step), 0)
    triangles[:, 256] = 0
    return np.log(np.maximum(power @ triangles.T, 2.0**-23))


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden data here")
@pytest.mark.parametrize("clip", ["en_look", "zh_ask", "en_short", "en_long", "stereo_44k", "mono_8k"])
def test_the_golden_clips_give_the_filter_bank_of_the_reference(clip: str, frontend: AudioFrontEnd) -> None:
    sound = read_sound(GOLDEN / "inputs" / f"{clip}.wav")
    with np.load(GOLDEN / "audio.npz") as golden:
        expected = golden[f"{clip}.fbank"]
    features = frontend.hear(sound)
    assert (features.shape, features.dtype) == (expected.shape, np.float32)
    resampled = sound.sample_rate_hz != 16000
    difference = np.abs(features - expected)
    assert difference[expected > 3].max() <= (0.03 if resampled else 0.02)
    assert difference[expected <= 3].max() <= 0.2
    if not resampled:
        assert difference[expected <= FLOOR + 1e-5].max() <= 1e-4


def test_the_filter_bank_is_the_one_of_the_specification(frontend: AudioFrontEnd) -> None:
    samples = noise(16000) + np.float32(0.2)
    features = frontend.fbank(samples)
    assert features.shape == (98, 80)
    np.testing.assert_allclose(features, filter_bank(samples), atol=2e-3)


def test_digital_silence_lies_at_the_floor(frontend: AudioFrontEnd) -> None:
    np.testing.assert_allclose(frontend.fbank(np.zeros(4000, np.float32)), FLOOR, atol=1e-5)


@pytest.mark.parametrize("samples", [0, 399, 400, 559, 560, 1359, 1360, 16000])
def test_frames_that_overhang_the_end_are_dropped(samples: int, frontend: AudioFrontEnd) -> None:
    frames = 1 + (samples - 400) // 160 if samples >= 400 else 0
    assert frontend.fbank(noise(samples)).shape == (frames, 80)
    assert frontend.frames(samples) == frames


def test_only_the_first_channel_is_heard(frontend: AudioFrontEnd) -> None:
    first, second = noise(8000), noise(8000)[::-1]
    both = frontend.hear(Sound(np.stack([first, second]), 44100))
    np.testing.assert_array_equal(both, frontend.hear(Sound(first, 44100)))


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_a_clip_of_a_twentieth_of_a_second_is_refused(rate: int, frontend: AudioFrontEnd) -> None:
    with pytest.raises(BadInput, match=r"50 ms.* needs 85 ms"):
        frontend.hear(Sound(noise(rate // 20), rate))


def test_the_shortest_clip_gives_one_encoder_step(frontend: AudioFrontEnd) -> None:
    assert frontend.facts.encoder_steps(len(frontend.hear(Sound(noise(1360), 16000)))) == 1
    for samples in (0, 1, 1359):
        with pytest.raises(BadInput, match="too short"):
            frontend.hear(Sound(noise(samples), 16000))


@pytest.mark.parametrize("rate", [1, 8000, 16000])
def test_a_clip_beyond_the_positions_of_the_encoder_is_refused(rate: int, frontend: AudioFrontEnd) -> None:
    with pytest.raises(BadInput, match=r"201\.0 s.* 200 s"):
        frontend.hear(Sound(np.zeros(rate * 201, np.float32), rate))
    assert frontend.wave(Sound(np.zeros(16000 * 200, np.float32), 16000)).size == 16000 * 200


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_are_refused(value: float, frontend: AudioFrontEnd) -> None:
    samples = noise(16000)
    samples[5000] = value
    with pytest.raises(BadInput, match="not numbers"):
        frontend.hear(Sound(samples, 16000))


def test_a_clip_far_beyond_full_scale_stays_finite(frontend: AudioFrontEnd) -> None:
    assert np.isfinite(frontend.hear(Sound(noise(16000) * np.float32(1e9), 16000))).all()


# --- piece by piece


@pytest.mark.parametrize("block", [1600, 160, 401, 30])
def test_a_filter_bank_that_is_fed_piece_by_piece_is_that_of_the_whole_bit_by_bit(
    frontend: AudioFrontEnd, block: int
) -> None:
    samples = noise(16000)
    stream = frontend.stream()
    for end in range(block, len(samples) + block, block):
        stream.extend(samples[:end])
        ready = frontend.frames(min(end, len(samples)))
        if ready:
            np.testing.assert_array_equal(stream.frames(ready - 1, ready), frontend.fbank(samples)[ready - 1 : ready])
    np.testing.assert_array_equal(stream.frames(0, 98), frontend.fbank(samples))


def test_a_growing_clip_may_be_given_shorter_than_before(frontend: AudioFrontEnd) -> None:
    samples, stream = noise(16000), frontend.stream()
    for end in (8000, 3000, 8000, 16000):
        stream.extend(samples[:end])
    np.testing.assert_array_equal(stream.frames(0, 98), frontend.fbank(samples))
