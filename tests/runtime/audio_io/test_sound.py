"""Reading, resampling and writing sound."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput, OutputFailed
from vita_edge.runtime.audio_io.sound import Sound, resample, write_wav
from vita_edge.runtime.audio_io.sound_files import read_sound

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "tiny-a" / "data"
RAMP = np.arange(-32768, 32768, 7, dtype=np.int16)


def wav(samples: NDArray[np.generic], rate: int = 16000, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def windowed_sinc(x: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float64]:
    """Specification 5.1 word for word, one output sample at a time."""
    divisor = math.gcd(from_hz, to_hz)
    o, n = from_hz // divisor, to_hz // divisor
    base = 0.99 * min(o, n)
    width = math.ceil(6 * o / base)
    y = np.zeros(math.ceil(n * len(x) / o))
    for m in range(len(y)):
        q, p = divmod(m, n)
        for j in range(-width, width + o):
            if 0 <= q * o + j < len(x):
                t = min(max(base * (j / o - p / n), -6), 6)
                sinc = math.sin(math.pi * t) / (math.pi * t) if t else 1.0
                y[m] += x[q * o + j] * base / o * math.cos(math.pi * t / 12) ** 2 * sinc
    return y


def test_sixteen_bit_samples_are_divided_by_32768() -> None:
    sound = read_sound(wav(RAMP))
    assert sound.sample_rate_hz == 16000
    assert sound.samples.dtype == np.float32
    np.testing.assert_array_equal(sound.samples, RAMP[None].astype(np.float32) / 32768)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_every_depth_and_number_of_channels_is_read(subtype: str, channels: int) -> None:
    samples = np.linspace(-0.9, 0.9, 800 * channels).reshape(800, channels)
    sound = read_sound(wav(samples, 48000, subtype))
    assert (sound.samples.shape, sound.sample_rate_hz) == ((channels, 800), 48000)
    np.testing.assert_allclose(sound.samples, samples.T, atol=1 / 128 if subtype == "PCM_U8" else 1 / 32768)
    np.testing.assert_array_equal(sound.heard_channel, sound.samples[0])
    assert sound.seconds == pytest.approx(1 / 60)


def test_flac_paths_and_open_files_are_read(tmp_path: Path) -> None:
    data = wav(RAMP, kind="FLAC")
    (tmp_path / "a.flac").write_bytes(data)
    for source in (data, tmp_path / "a.flac", str(tmp_path / "a.flac"), io.BytesIO(data)):
        np.testing.assert_array_equal(read_sound(source).samples * 32768, RAMP[None])


def test_a_recording_that_was_cut_short_keeps_what_is_there() -> None:
    sound = read_sound(wav(RAMP)[: 44 + 2 * 1000 + 1])
    np.testing.assert_array_equal(sound.samples * 32768, RAMP[None, :1000])


@pytest.mark.parametrize("data", [b"", b"RIFF", wav(RAMP)[:44], wav(RAMP)[:30], b"not a sound" * 99, b"\0" * 4096])
def test_what_holds_no_sound_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(data)
    for source in (data, tmp_path / "a.wav"):
        with pytest.raises(BadInput) as error:
            read_sound(source)
        assert error.value.fix


def test_paths_without_a_sound_are_refused(tmp_path: Path) -> None:
    (tmp_path / "samples.raw").write_bytes(bytes(100))
    for path in (tmp_path, tmp_path / "missing.wav", tmp_path / "samples.raw", tmp_path / "samples.raw" / "a.wav"):
        with pytest.raises(BadInput, match=path.name):
            read_sound(path)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"),
    [(8000, 16000), (44100, 16000), (11025, 16000), (96000, 16000), (16000, 24000), (44099, 16000)],
)
def test_resampling_is_the_windowed_sinc_of_the_reference(from_hz: int, to_hz: int) -> None:
    x = np.random.default_rng(1).standard_normal(40).astype(np.float32)
    y = resample(x, from_hz, to_hz)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, windowed_sinc(x, from_hz, to_hz), atol=2e-6)


def test_the_blocks_of_a_long_clip_join_without_a_seam() -> None:
    x = np.random.default_rng(2).standard_normal(48000 * 8).astype(np.float32)
    whole = resample(x, 48000, 16000)  # several blocks of one phase
    middle = resample(x[30000:90000], 48000, 16000)
    np.testing.assert_allclose(whole[10100:29900], middle[100:19900], atol=1e-6)


def test_the_same_rate_and_no_samples_are_left_alone() -> None:
    x = np.float32([1, 2, 3])
    np.testing.assert_array_equal(resample(x, 16000, 16000), x)
    assert resample(x[:0], 44100, 16000).shape == (0,)
    assert resample(x[:1], 384000, 16000).shape == (1,)


def test_a_reply_is_written_as_sixteen_bits_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "reply.wav"
    path.write_bytes(b"old")
    write_wav(path, RAMP, 24000)
    back, rate = soundfile.read(path, dtype="int16")
    assert (rate, soundfile.info(path).subtype) == (24000, "PCM_16")
    np.testing.assert_array_equal(back, RAMP)
    assert list(tmp_path.iterdir()) == [path]


def test_floats_are_cut_towards_zero_and_full_scale_does_not_wrap(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.float32([0.99999 / 32768, -0.99999 / 32768, 0.5, 1.0, -1.0, 1.5]), 24000)
    back, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert back.tolist() == [0, 0, 16384, 32767, -32768, 32767]


def test_a_reply_that_cannot_be_written_says_why_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "folder", tmp_path / "missing" / "a.wav", tmp_path / "file" / "a.wav"):
        with pytest.raises(OutputFailed) as error:
            write_wav(path, RAMP, 24000)
        assert error.value.why
        assert error.value.fix
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_and_a_device_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match="space"):
        write_wav("/dev/full", RAMP, 24000)
    (tmp_path / "link.wav").symlink_to(tmp_path / "target.wav")
    write_wav(tmp_path / "link.wav", RAMP, 24000)
    assert (tmp_path / "link.wav").is_symlink()
    assert (tmp_path / "target.wav").is_file()


@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden data here")
@pytest.mark.parametrize("clip", ["en_look", "zh_ask", "en_short", "en_long", "stereo_44k", "mono_8k"])
def test_the_golden_clips_are_heard_as_the_reference_hears_them(clip: str) -> None:
    sound = read_sound(GOLDEN / "inputs" / f"{clip}.wav")
    with np.load(GOLDEN / "audio.npz") as golden:
        expected = golden[f"{clip}.wave"]
    heard = resample(sound.heard_channel, sound.sample_rate_hz, 16000)
    assert heard.shape == expected.shape
    assert np.abs(heard - expected).max() <= (1e-5 if sound.sample_rate_hz != 16000 else 0) * np.abs(expected).max()


def test_one_channel_needs_no_channel_axis() -> None:
    sound = Sound(np.zeros(8000, np.float32), 16000)
    assert (sound.heard_channel.shape, sound.seconds) == ((8000,), 0.5)
