"""The simulated room keeps its promises: exact times, the level and the delay of the echo, and real time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.runtime.audio_io.device_protocols import BLOCK, BLOCK_S, AudioBlock, AudioInput, AudioOutput
from vita_edge.runtime.audio_io.sound import Sound
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.simulation.room import Room

RATE = 24_000


class Samples:
    """A source that plays an array, then silence."""

    sample_rate_hz = RATE

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self._left = samples
        self.pulled_at_s: list[float] = []

    def pull(self, count: int, at_s: float) -> NDArray[np.float32]:
        self.pulled_at_s.append(at_s)
        now, self._left = self._left[:count], self._left[count:]
        return np.pad(now, (0, count - now.size))


def tone(hz: float, seconds: float, rate_hz: int) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def live(room: Room, seconds: float) -> tuple[NDArray[np.float32], list[AudioBlock]]:
    """Step the room; what its microphone heard."""
    blocks: list[AudioBlock] = []
    for _ in range(round(seconds / BLOCK_S)):
        room.tick()
        block = room.microphone.read(0)
        assert block is not None
        blocks.append(block)
    return np.concatenate([block.samples for block in blocks]), blocks


def rms_db(samples: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


def test_its_devices_are_devices() -> None:
    room = Room()
    microphone: AudioInput = room.microphone
    speaker: AudioOutput = room.speaker
    assert microphone.name and speaker.name
    assert not (microphone.lost or speaker.lost)


def test_an_utterance_is_heard_when_it_says() -> None:
    room = Room(noise_dbfs=None, start_s=100.0)
    spike = np.zeros(1000, np.float32)
    spike[0] = spike[-1] = 0.5
    utterance = room.say(Sound(spike, 16_000), at_s=100.123)
    assert utterance.begin_s == pytest.approx(100.123, abs=1 / 16_000)
    assert utterance.end_s - utterance.begin_s == pytest.approx(999 / 16_000)
    with room.microphone:
        samples, blocks = live(room, 0.3)
    times = blocks[0].end_s + (np.arange(samples.size) - (BLOCK - 1)) / 16_000
    assert times[np.flatnonzero(samples)] == pytest.approx([utterance.begin_s, utterance.end_s], abs=1e-6)
    assert blocks[-1].end_s - blocks[0].end_s == pytest.approx((len(blocks) - 1) * BLOCK_S)


def test_sounds_overlap_and_begin_as_soon_as_they_can() -> None:
    room = Room(noise_dbfs=None, start_s=0.0)
    with room.microphone:
        live(room, 0.05)
        ones = Sound(np.full(1600, 0.25, np.float32), 16_000)
        first, second = room.say(ones), room.say(ones, at_s=0.1)
        samples, _ = live(room, 0.25)
    assert (first.begin_s, second.begin_s) == pytest.approx((0.05, 0.1))
    assert list(np.unique(samples)) == [0, 0.25, 0.5]
    assert np.count_nonzero(samples == 0.5) == 800


def test_what_is_played_is_kept_with_the_time_of_every_sample(tmp_path: Path) -> None:
    room = Room(noise_dbfs=None, speaker_latency_s=0.03, start_s=10.0)
    source = Samples(np.pad(tone(440, 0.1, RATE), (1000, 0)))
    with room.microphone, room.speaker:
        live(room, 0.1)
        assert room.first_sound_after(0) is None
        room.speaker.start(source)
        live(room, 0.4)
    began_s = source.pulled_at_s[0] + 1000 / RATE
    assert source.pulled_at_s[0] == pytest.approx(10.0 + 0.11 + 0.03)
    assert np.diff(source.pulled_at_s) == pytest.approx(BLOCK_S)
    assert room.first_sound_after(10.0) == pytest.approx(began_s, abs=1e-4)
    assert room.last_sound_before(99.0) == pytest.approx(began_s + 0.1, abs=1e-4)
    assert room.first_sound_after(began_s + 0.05) == pytest.approx(began_s + 0.05, abs=1e-4)
    assert room.first_sound_after(began_s + 0.11) is None
    samples, first_s = room.heard(began_s, began_s + 0.1)
    assert first_s == pytest.approx(began_s)
    np.testing.assert_array_equal(samples[:2000], tone(440, 0.1, RATE)[:2000])
    room.write_heard(tmp_path / "heard.wav")
    assert read_sound(tmp_path / "heard.wav").seconds == pytest.approx(0.5)


def test_only_so_much_is_kept() -> None:
    room = Room(keep_s=0.2, start_s=0.0)
    with room.microphone, room.speaker:
        room.speaker.start(Samples(tone(440, 1, RATE)))
        live(room, 0.5)
    samples, first_s = room.heard()
    assert samples.size == round(0.2 * RATE)
    assert first_s == pytest.approx(0.5 + BLOCK_S + 0.02 - 0.2)


@pytest.mark.parametrize("echo_db", [-6.0, -20.0])
def test_the_echo_has_its_level_and_its_delay(echo_db: float) -> None:
    room = Room(echo_db=echo_db, noise_dbfs=None, speaker_latency_s=0.02, echo_delay_s=0.04, start_s=0.0)
    bursts = np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32)
    spectrum = np.fft.rfft(bursts)
    frequency = np.fft.rfftfreq(bursts.size, 1 / RATE)
    bursts = np.fft.irfft(spectrum * ((frequency > 200) & (frequency < 4000)), bursts.size).astype(np.float32)
    with room.microphone, room.speaker:
        room.speaker.start(Samples(bursts))
        heard, blocks = live(room, 2)
    assert rms_db(heard[4000:]) - rms_db(bursts) == pytest.approx(echo_db, abs=1.0)
    onset_s = blocks[0].end_s + (np.flatnonzero(np.abs(heard) > 0.005)[0] - (BLOCK - 1)) / 16_000
    sounded_s = room.first_sound_after(0, 0.005)
    assert sounded_s is not None
    assert onset_s - sounded_s == pytest.approx(0.04, abs=0.003)


def test_an_echo_of_a_tone_is_that_tone() -> None:
    room = Room(echo_db=-6, noise_dbfs=None)
    with room.microphone, room.speaker:
        room.speaker.start(Samples(tone(1000, 2, RATE)))
        heard, _ = live(room, 1.5)
    spectrum = np.abs(np.fft.rfft(heard[8000:24_000] * np.hanning(16_000)))
    assert np.argmax(spectrum) == 1000
    assert np.delete(spectrum, range(990, 1011)).max() < 0.001 * spectrum.max()


def test_headphones_and_noise() -> None:
    room = Room(echo_db=None, noise_dbfs=-50)
    with room.microphone, room.speaker:
        room.speaker.start(Samples(tone(1000, 1, RATE)))
        heard, _ = live(room, 1)
    assert rms_db(heard) == pytest.approx(-50, abs=0.3)


def test_a_room_that_is_stepped_by_hand_repeats_itself() -> None:
    def once() -> NDArray[np.float32]:
        room = Room(echo_db=-12, start_s=0.0)
        room.say(Sound(tone(300, 0.2, 16_000), 16_000), at_s=0.1)
        with room.microphone, room.speaker:
            room.speaker.start(Samples(tone(500, 0.2, RATE)))
            return live(room, 0.5)[0]

    np.testing.assert_array_equal(once(), once())


def test_blocks_that_nobody_reads_are_counted() -> None:
    room = Room()
    with room.microphone:
        for _ in range(510):
            room.tick()
        assert room.microphone.dropouts == 10
        first = room.microphone.read(0)
    assert first is not None and first.end_s < room.now_s - 5


def test_it_lives_in_real_time_and_does_not_drift() -> None:
    with Room(echo_db=-12) as room, room.microphone:
        blocks = [room.microphone.read(1.0) for _ in range(60)]
        late = time.monotonic() - room.now_s
        heard = [block for block in blocks if block]
    assert len(heard) == 60
    assert np.diff([block.end_s for block in heard]) == pytest.approx(BLOCK_S)
    assert -0.001 < late < 0.2


def test_a_source_that_fails_is_told_by_whoever_leaves() -> None:
    class Broken(Samples):
        def pull(self, count: int, at_s: float) -> NDArray[np.float32]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Room() as room, room.speaker, room.microphone:
        room.speaker.start(Broken(np.zeros(0, np.float32)))
        while room.microphone.read(0.5):
            pass
