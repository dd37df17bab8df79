"""The assistant does not hear itself, and still hears others."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.runtime.audio_io.device_protocols import AudioBlock
from vita_edge.runtime.audio_io.echo_canceller import CancelsEcho, EchoCanceller, Headphones
from vita_edge.runtime.audio_io.sound import Sound, resample
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.simulation.room import Room
from vita_edge.runtime.turns.silero_vad import STEP, VoiceDetector

DATA = Path(__file__).resolve().parents[2] / "data"
RATE, FAR_RATE = 16_000, 24_000
SECONDS = 8


class Playlist:
    """A source that plays float32 [n], then nothing."""

    sample_rate_hz = FAR_RATE

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self._left = samples

    def pull(self, count: int, at_s: float) -> NDArray[np.float32]:
        now, self._left = self._left[:count], self._left[count:]
        return np.pad(now, (0, count - now.size))


@pytest.fixture(scope="module")
def far(golden: Path) -> NDArray[np.float32]:
    """float32 [n] at 24 kHz: eight seconds of speech, as the assistant's voice."""
    sounds = [read_sound(golden / "data" / "inputs" / f"{name}.wav") for name in ("en_look", "zh_ask")]
    pieces = [resample(sound.heard_channel, sound.sample_rate_hz, FAR_RATE) for sound in sounds]
    return np.resize(np.concatenate([0.5 * piece / np.abs(piece).max() for piece in pieces]), SECONDS * FAR_RATE)


def listen(
    canceller: CancelsEcho,
    far: NDArray[np.float32],
    echo_db: float = -6.0,
    said: tuple[float, NDArray[np.float32]] | None = None,
    tap: Callable[[NDArray[np.float32], float], None] | None = None,
) -> NDArray[np.float32]:
    """float32 [n] at 16 kHz: what is heard behind the canceller."""
    room = Room(echo_db=echo_db, noise_dbfs=-70, start_s=0.0)
    if said:
        room.say(Sound(said[1], RATE), said[0])
    heard: list[AudioBlock] = []
    with room.microphone, room.speaker:
        room.speaker.start(Playlist(far), tap or canceller.reference)
        while room.now_s < SECONDS - 0.05:
            room.tick()
            block = room.microphone.read(0)
            assert block is not None
            heard.append(canceller.step(block))
            assert heard[-1].end_s == block.end_s
    return np.concatenate([block.samples for block in heard])


def level_db(samples: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


def voice(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    detector = VoiceDetector()
    return np.array([detector.step(samples[i : i + STEP]) for i in range(0, samples.size - STEP + 1, STEP)])


@pytest.mark.parametrize(("echo_db", "less_db"), [(-6.0, 25), (-12.0, 20), (-20.0, 13)])
@pytest.mark.parametrize("suppress_noise", [False, True])
def test_after_a_second_little_is_left_of_the_echo(
    far: NDArray[np.float32], echo_db: float, less_db: float, suppress_noise: bool
) -> None:
    echo = listen(Headphones(), far, echo_db)[RATE:]
    left = listen(EchoCanceller(suppress_noise=suppress_noise), far, echo_db)[RATE:]
    assert level_db(echo) - level_db(left) > less_db
    assert np.abs(left).max() < 0.02
    assert voice(echo).max() > 0.9
    assert voice(left).max() < 0.5


@pytest.mark.parametrize("echo_db", [-6.0, -20.0])
@pytest.mark.parametrize("word", ["yes", "no", "stop"])
def test_a_word_spoken_into_its_speech_is_heard(far: NDArray[np.float32], echo_db: float, word: str) -> None:
    word_samples = read_sound(DATA / f"{word}-en-us+f3.flac").heard_channel
    at_s = 5.0
    heard = listen(EchoCanceller(), far, echo_db, said=(at_s, word_samples))
    during = heard[int(at_s * RATE) :][: word_samples.size]
    assert level_db(during) - level_db(word_samples) > -4
    steps = np.flatnonzero(voice(heard) >= 0.5) * STEP / RATE
    assert at_s - STEP / RATE < steps[0] < at_s + 0.25


def test_speech_passes_unharmed_where_nothing_is_played(golden: Path) -> None:
    sound = read_sound(golden / "data" / "inputs" / "en_look.wav")
    samples = resample(sound.heard_channel, sound.sample_rate_hz, RATE)
    heard = listen(EchoCanceller(), np.zeros(0, np.float32), said=(1.0, samples))
    heard = heard[RATE:][: samples.size]
    assert level_db(heard) == pytest.approx(level_db(samples), abs=1.0)


@pytest.mark.parametrize("error_ms", [-8.0, 8.0, 25.0])
def test_times_may_be_off_by_what_converters_are_off(far: NDArray[np.float32], error_ms: float) -> None:
    canceller = EchoCanceller()
    left = listen(canceller, far, tap=lambda samples, at_s: canceller.reference(samples, at_s + error_ms / 1000))
    assert level_db(listen(Headphones(), far)[RATE:]) - level_db(left[RATE:]) > 20


def test_a_speaker_that_was_away_is_aligned_again(far: NDArray[np.float32]) -> None:
    """Between 3 and 5 s nothing is pulled, as when the device is gone."""
    canceller = EchoCanceller()
    away = np.concatenate([far[: 3 * FAR_RATE], np.zeros(2 * FAR_RATE, np.float32), far[3 * FAR_RATE :]])

    def tap(samples: NDArray[np.float32], at_s: float) -> None:
        if not 3.1 < at_s < 4.9:
            canceller.reference(samples, at_s)

    echo, left = listen(Headphones(), away), listen(canceller, away, tap=tap)
    assert level_db(echo[6 * RATE :]) - level_db(left[6 * RATE :]) > 20


def test_a_reset_forgets_everything(far: NDArray[np.float32]) -> None:
    canceller = EchoCanceller()
    first = listen(canceller, far)
    canceller.reset()
    np.testing.assert_array_equal(listen(canceller, far), first)


def test_the_callback_may_lay_down_while_a_block_is_made(far: NDArray[np.float32]) -> None:
    canceller = EchoCanceller()
    pieces = np.split(far, range(120, far.size, 120))

    def play() -> None:
        for i, piece in enumerate(pieces):
            canceller.reference(piece, i * 0.005)

    speaker = threading.Thread(target=play)
    speaker.start()
    blocks = [canceller.step(AudioBlock(np.zeros(160, np.float32), i * 0.01)) for i in range(500)]
    speaker.join()
    assert all(np.isfinite(block.samples).all() and block.samples.shape == (160,) for block in blocks)


def test_headphones_change_nothing() -> None:
    canceller = Headphones()
    canceller.reference(np.ones(240, np.float32), 0.0)
    block = AudioBlock(np.ones(160, np.float32), 1.0)
    assert canceller.step(block) is block


def test_a_missing_package_is_named() -> None:
    code = """
import sys
sys.modules['pywebrtc_audio'] = None
from vita_edge.engines.errors import MissingPackage
from vita_edge.runtime.audio_io.echo_canceller import EchoCanceller
try:
    EchoCanceller()
except MissingPackage as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pywebrtc-audio" in done.stdout and "[live]" in done.stdout
