"""Real streams of PortAudio in a room of PulseAudio: what is played is heard, and what vanishes comes back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.pulse import SPEAKER_RATE_HZ, PulseRoom, pulse_room, wait_until
from vita_edge.engines.errors import DeviceFailed
from vita_edge.runtime.audio_io.device_protocols import AudioBlock, AudioInput, AudioOutput
from vita_edge.runtime.audio_io.echo_canceller import EchoCanceller
from vita_edge.runtime.audio_io.portaudio import SoundDevice, choose, find_again, sound_devices
from vita_edge.runtime.audio_io.sound import resample
from vita_edge.runtime.audio_io.sound_devices import SoundMicrophone, SoundSpeaker
from vita_edge.runtime.audio_io.sound_files import read_sound

__all__ = ["pulse_room"]


class Tone:
    """A source that plays one tone."""

    sample_rate_hz = 24_000

    def __init__(self, hz: float) -> None:
        self._hz = hz
        self.pulled = 0
        self.at_s: list[float] = []

    def pull(self, count: int, at_s: float) -> NDArray[np.float32]:
        t = (self.pulled + np.arange(count)) / self.sample_rate_hz
        self.pulled += count
        self.at_s.append(at_s)
        return (0.5 * np.sin(2 * np.pi * self._hz * t)).astype(np.float32)


def tone(hz: float, seconds: float, rate_hz: int) -> NDArray[np.float32]:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def pitch_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * rate_hz / samples.size)


def hear(microphone: AudioInput, blocks: int) -> list[AudioBlock]:
    """The next blocks."""
    heard = [block for _ in range(blocks) if (block := microphone.read(5.0))]
    assert len(heard) == blocks
    return heard


def hear_tone(microphone: AudioInput, hz: float) -> list[AudioBlock]:
    """Blocks of half a second in which nothing but a tone is heard."""
    recent: list[AudioBlock] = []

    def heard() -> bool:
        while block := microphone.read(0):
            recent.append(block)
        del recent[:-50]
        samples = np.concatenate([block.samples for block in recent]) if recent else np.zeros(1, np.float32)
        return samples.size == 8000 and np.abs(samples).max() > 0.3 and abs(pitch_hz(samples, 16_000) - hz) <= 2

    wait_until(heard)
    return recent


def speaker_plays(room: PulseRoom, hz: float) -> bool:
    samples = room.speaker()[-SPEAKER_RATE_HZ // 2 :]
    loud = samples.size == SPEAKER_RATE_HZ // 2 and np.abs(samples).max() > 0.4
    return bool(loud and abs(pitch_hz(samples, SPEAKER_RATE_HZ) - hz) <= 2)


def test_devices_are_listed_and_chosen_by_index_and_by_name(pulse_room: PulseRoom) -> None:
    devices = sound_devices()
    default = next(device for device in devices if device.default_input)
    assert choose(None, "input") == default
    assert choose(default.index, "input") == choose(str(default.index), "output") == default
    assert choose("puls", "input").name == choose("PULSE", "output").name == "pulse"
    assert find_again(default, "input") == default
    gone = SoundDevice(9, "USB Audio: - (hw:7,0)", 1, 0, 48_000, False, False)
    assert find_again(gone, "input") is None
    with pytest.raises(DeviceFailed, match="There is no microphone 99") as failure:
        choose(99, "input")
    assert all(device.name in failure.value.why for device in devices)
    with pytest.raises(DeviceFailed, match="could be several"):
        choose("u", "output")


def test_the_microphone_hears_a_tone_as_it_is_and_knows_when(pulse_room: PulseRoom) -> None:
    with SoundMicrophone() as microphone:
        hear(microphone, 1)
        playing = pulse_room.say(tone(440, 4, 44_100), 44_100)
        blocks = hear_tone(microphone, 440)
        age_s = time.monotonic() - blocks[-1].end_s
        playing.terminate()
        playing.wait()
        assert not microphone.lost and microphone.dropouts == 0
    assert np.diff([block.end_s for block in blocks]) == pytest.approx(0.01, abs=0.002)
    assert -0.02 < age_s < 0.3
    assert all(block.samples.shape == (160,) and block.samples.dtype == np.float32 for block in blocks)


def test_the_speaker_plays_its_source_and_tells_the_tap(pulse_room: PulseRoom) -> None:
    source = Tone(1000)
    tapped: list[tuple[int, float]] = []
    with SoundSpeaker("default") as speaker:
        wait_until(lambda: speaker.latency_s > 0)
        assert source.pulled == 0
        speaker.start(source, lambda samples, at_s: tapped.append((samples.size, at_s)))
        wait_until(lambda: speaker_plays(pulse_room, 1000))
        begin_s, begin = time.monotonic(), source.pulled
        wait_until(lambda: source.pulled >= begin + 24_000)
        took_s = time.monotonic() - begin_s
        assert 0 < speaker.latency_s < 0.5 and not speaker.lost
    assert took_s == pytest.approx(1, abs=0.3)  # in real time
    assert [at_s for _, at_s in tapped] == source.at_s
    assert sum(size for size, _ in tapped) == source.pulled
    assert source.at_s[-1] > begin_s
    assert np.diff(source.at_s[-100:]) == pytest.approx(0.005, abs=0.003)


def test_what_nobody_reads_is_counted(pulse_room: PulseRoom) -> None:
    with SoundMicrophone() as microphone:
        wait_until(lambda: microphone.dropouts > 0)
        hear(microphone, 450)
        assert microphone.dropouts < 200


def test_both_directions_come_back_when_the_sound_system_does(pulse_room: PulseRoom) -> None:
    source = Tone(800)
    with SoundMicrophone() as microphone, SoundSpeaker() as speaker:
        speaker.start(source)
        wait_until(lambda: speaker_plays(pulse_room, 800))
        pulse_room.stop()
        wait_until(lambda: microphone.lost and speaker.lost)
        while microphone.read(0):  # what was heard before
            pass
        assert microphone.read(0.05) is None
        pulled = source.pulled
        assert microphone.read(0.3) is None
        assert source.pulled == pulled  # nobody could hear it
        pulse_room.start()
        wait_until(lambda: not (microphone.lost or speaker.lost))
        playing = pulse_room.say(tone(500, 6, 16_000), 16_000)
        hear_tone(microphone, 500)
        wait_until(lambda: speaker_plays(pulse_room, 800))
        playing.terminate()
        playing.wait()


def test_a_driver_that_hangs_holds_nobody_up(pulse_room: PulseRoom) -> None:
    speaker = SoundSpeaker()
    with SoundMicrophone() as microphone, speaker:
        speaker.start(Tone(600))
        hear(microphone, 10)
        with pulse_room.hanging():
            wait_until(lambda: microphone.lost and speaker.lost)
            begin_s = time.monotonic()
            speaker.__exit__(None, None, None)
            assert time.monotonic() - begin_s < 1
        wait_until(lambda: not microphone.lost)
        hear(microphone, 10)


def test_one_direction_does_not_take_the_other_along(pulse_room: PulseRoom) -> None:
    with SoundMicrophone() as microphone:
        hear(microphone, 1)
        for _ in range(3):
            with SoundSpeaker() as speaker:
                speaker.start(Tone(300))
                wait_until(lambda speaker=speaker: speaker.latency_s > 0)  # type: ignore[misc]
        hear(microphone, 20)
        assert not microphone.lost


def test_the_echo_loop_lets_the_microphone_hear_the_speaker(pulse_room: PulseRoom) -> None:
    with SoundMicrophone() as microphone, SoundSpeaker() as speaker, pulse_room.echo(-2):
        speaker.start(Tone(700))
        hear_tone(microphone, 700)


class Clip:
    """A source that plays a clip again and again."""

    sample_rate_hz = 24_000

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self._samples = samples

    def pull(self, count: int, at_s: float) -> NDArray[np.float32]:
        now = np.resize(self._samples, count)
        self._samples = np.roll(self._samples, -count)
        return now


def test_the_echo_of_real_streams_is_cancelled(pulse_room: PulseRoom, golden: Path) -> None:
    """The times that PortAudio tells for both directions are good enough to find the reference of an echo."""
    speech = read_sound(golden / "data" / "inputs" / "en_look.wav")
    source = Clip(resample(speech.heard_channel, speech.sample_rate_hz, 24_000))
    canceller = EchoCanceller()
    echo, left = [], []
    with SoundMicrophone() as microphone, SoundSpeaker() as speaker, pulse_room.echo(-6):
        speaker.start(source, canceller.reference)
        for block in (hear(microphone, 1)[0] for _ in range(600)):
            echo.append(block.samples)
            left.append(canceller.step(block).samples)
    power = [np.mean(np.concatenate(blocks[300:]).astype(np.float64) ** 2) for blocks in (echo, left)]
    assert power[0] > 1e-5
    assert 10 * np.log10(power[0] / power[1]) > 12


def test_closing_is_quick_and_leaves_no_thread(pulse_room: PulseRoom) -> None:
    microphone: AudioInput = SoundMicrophone()
    speaker: AudioOutput = SoundSpeaker()
    with microphone, speaker:
        hear(microphone, 1)
        begin_s = time.monotonic()
    assert time.monotonic() - begin_s < 1
    wait_until(lambda: not any(thread.name == "sound devices" for thread in threading.enumerate()))


@pytest.mark.parametrize(
    ("spoil", "what", "fix"),
    [
        ("sys.modules['sounddevice'] = None", "the package sounddevice", "[live]"),
        ("ctypes.util.find_library = lambda name: None", "need PortAudio", "apt-get install libportaudio2"),
    ],
)
def test_what_is_not_installed_is_named(spoil: str, what: str, fix: str) -> None:
    code = f"""
import ctypes.util, sys
{spoil}
from vita_edge.engines.errors import MissingPackage
from vita_edge.runtime.audio_io.sound_devices import SoundMicrophone
try:
    SoundMicrophone().__enter__()
except MissingPackage as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert what in lines[0]
    assert fix in lines[2]
