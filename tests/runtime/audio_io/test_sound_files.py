"""Sound files and arrays as they come: wrong lengths, telephone encodings, odd scales, and what FFmpeg must read."""

from __future__ import annotations

import io
import logging
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vita_edge.engines.errors import BadInput, Misuse
from vita_edge.runtime.audio_io.sound import Sound
from vita_edge.runtime.audio_io.sound_files import read_sound

TONE = (0.3 * np.sin(np.arange(16000) * 0.05)).astype(np.float32)
STEREO = np.stack([0 * TONE, TONE], 1)


def encoded(samples: np.ndarray = TONE, rate: int = 16000, **how: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", "subtype": "PCM_16"} | how)
    return file.getvalue()


def with_lengths(wav: bytes, data: int, whole: int) -> bytes:
    at = wav.index(b"data") + 4
    wav = wav[:at] + struct.pack("<I", data) + wav[at + 4 :]
    return wav[:4] + struct.pack("<I", whole) + wav[8:]


@pytest.mark.parametrize("whole", [0, 36, 0xFFFFFFFF])
@pytest.mark.parametrize("data", [0, 1000, 31998, 0x7FFFFFF0, 0xFFFFFFFF])
def test_all_samples_are_read_whatever_the_header_says_of_their_number(tmp_path: Path, data: int, whole: int) -> None:
    wav = with_lengths(encoded(), data, whole)
    np.testing.assert_allclose(read_sound(wav).samples[0], TONE, atol=1e-4)
    (tmp_path / "streamed.wav").write_bytes(wav)
    np.testing.assert_allclose(read_sound(tmp_path / "streamed.wav").samples[0], TONE, atol=1e-4)
    with (tmp_path / "streamed.wav").open("rb") as file:
        np.testing.assert_allclose(read_sound(file).samples[0], TONE, atol=1e-4)


def test_a_chunk_behind_the_samples_is_no_sound() -> None:
    for chunks in (b"LIST\4\0\0\0INFO", b"LIST\4\0\0\0INFOid3 \3\0\0\0abc", b"LIST\3\0\0\0abc\0"):
        assert read_sound(encoded() + chunks).samples.shape == (1, 16000)


def test_a_wav_without_samples_holds_none() -> None:
    with pytest.raises(BadInput, match="holds no samples"):
        read_sound(encoded(TONE[:0]))
    with pytest.raises(BadInput, match="holds no samples"):
        read_sound(encoded(TONE[:0]) + b"LIST\4\0\0\0INFO")


@pytest.mark.parametrize("subtype", ["GSM610", "ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM", "PCM_U8"])
def test_telephone_encodings_are_read(tmp_path: Path, subtype: str) -> None:
    wav = encoded(TONE[::2], 8000, subtype=subtype)
    (tmp_path / "call.wav").write_bytes(wav)
    for source in (wav, tmp_path / "call.wav"):
        sound = read_sound(source)
        assert sound.sample_rate_hz == 8000
        assert np.corrcoef(sound.heard_channel[: len(TONE) // 2], TONE[::2])[0, 1] > 0.95


def test_floats_at_the_scale_of_integers_are_divided_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sound = read_sound(encoded(TONE * 32768, subtype="FLOAT"))
    np.testing.assert_allclose(sound.samples[0], TONE, atol=1e-6)
    assert "read as 16-bit integers" in caplog.text and sound.notes
    np.testing.assert_allclose(Sound(TONE * 2.0**31, 16000).samples, TONE, atol=1e-6)
    assert not Sound(TONE * 3, 16000).notes  # loud, but still a sound with full scale 1
    assert "too loud" in Sound(TONE * 100, 16000).notes[0]


def test_integers_are_divided_by_their_full_scale() -> None:
    assert Sound(np.array([-32768, 16384], np.int16), 16000).samples.tolist() == [-1.0, 0.5]
    assert Sound(np.array([-(2**31), 2**30], np.int32), 16000).samples.tolist() == [-1.0, 0.5]


def test_arrays_are_taken_as_sounddevice_gives_them() -> None:
    recorded = Sound(STEREO + 0.1, 44100.0)  # type: ignore[arg-type]
    assert recorded.samples.shape == (2, 16000) and recorded.samples.flags.c_contiguous
    assert recorded.sample_rate_hz == 44100 and isinstance(recorded.sample_rate_hz, int)
    assert Sound(TONE[:, None], 16000).samples.shape == (1, 16000)
    assert Sound(STEREO.T.astype(np.float64), 16000).samples.dtype == np.float32


@pytest.mark.parametrize(
    ("samples", "rate", "why"),
    [
        (np.zeros((1, 2, 100)), 16000, "without an axis for the batch"),
        (np.zeros((100, 100)), 16000, "at most 64 channels"),
        (np.zeros(100, np.complex64), 16000, "int16 or int32"),
        (np.zeros(100, np.int64), 16000, "int16 or int32"),
        (np.zeros(100, bool), 16000, "int16 or int32"),
        (np.zeros(100), 44100.5, "no sample rate"),
        (np.zeros(100), 0, "no sample rate"),
        (np.zeros(100), float("nan"), "no sample rate"),
        (np.zeros(100), "16k", "no sample rate"),
    ],
)
def test_what_is_no_sound_is_refused_in_words(samples: np.ndarray, rate: int, why: str) -> None:
    with pytest.raises(Misuse, match=why):
        Sound(samples, rate)


def test_the_loudest_channel_is_heard_where_the_first_is_silent() -> None:
    three = np.stack([0 * TONE, 0.1 * TONE, TONE])
    sound = Sound(three, 16000)
    np.testing.assert_array_equal(sound.heard_channel, TONE)
    assert sound.notes == ("The first of its 3 channels is silent: channel 3, the loudest, is heard.",)
    soft = Sound(np.stack([0.01 * TONE, TONE]), 16000)  # soft is not silent
    np.testing.assert_array_equal(soft.heard_channel, soft.samples[0])
    assert not soft.notes and not Sound(0 * three, 16000).notes


def test_what_needs_ffmpeg_is_named_with_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    clip = tmp_path / "clip.m4a"
    clip.write_bytes(b"\0\0\0\x18ftypM4A " + bytes(100))
    with pytest.raises(BadInput, match=r"MPEG-4 audio \(m4a\), which needs FFmpeg") as error:
        read_sound(clip)
    assert "ffmpeg -i clip.m4a sound.wav" in error.value.fix
    with pytest.raises(BadInput, match="WebM"):
        read_sound(b"\x1a\x45\xdf\xa3" + bytes(100))
    with pytest.raises(BadInput) as error:
        read_sound(b"hello")
    assert "WAV, FLAC, MP3" in error.value.fix


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not on the PATH")
@pytest.mark.parametrize("kind", ["m4a", "aac", "webm", "mka", "wma"])
def test_ffmpeg_reads_what_libsndfile_does_not(tmp_path: Path, kind: str) -> None:
    (tmp_path / "-a b.wav").write_bytes(encoded())
    path = tmp_path / f"-clip, odd: name.{kind}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", f"file:{tmp_path / '-a b.wav'}", f"file:{path}"], check=True)
    for source in (path, path.read_bytes()):
        assert abs(read_sound(source).seconds - 1) < 0.1
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadInput, match="FFmpeg says"):
        read_sound(path)
