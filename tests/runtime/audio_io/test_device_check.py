"""``vita-edge devices`` says what there is and, in plain words, what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.pulse import PulseRoom, pulse_room
from vita_edge.runtime.audio_io.device_check import MicrophoneCheck, SpeakerCheck, check_microphone, check_speaker
from vita_edge.runtime.audio_io.sound import Sound
from vita_edge.runtime.simulation.room import Room

__all__ = ["pulse_room"]


def sine(peak: float, seconds: float) -> Sound:
    t = np.arange(round(seconds * 16_000)) / 16_000
    return Sound((peak * np.sin(2 * np.pi * 300 * t)).astype(np.float32), 16_000)


def hear(sound: Sound | None, noise_dbfs: float | None = -65) -> MicrophoneCheck:
    with Room(noise_dbfs=noise_dbfs) as room:
        if sound:
            room.say(sound)
        with room.microphone as microphone:
            return check_microphone(microphone, seconds=0.3)


# --- the checks, in a simulated room


def test_a_good_microphone_has_its_level_and_no_problems() -> None:
    check = hear(sine(0.1, 1))
    assert check.seconds == pytest.approx(0.3)
    assert check.peak_dbfs == pytest.approx(-20, abs=0.2)
    assert check.rms_dbfs == pytest.approx(-23, abs=0.2)
    assert check.problems == []


@pytest.mark.parametrize(
    ("sound", "noise_dbfs", "problem"),
    [
        (None, None, "silent"),
        (sine(0.0005, 1), None, "very quiet"),
        (sine(1.5, 1), -65, "clips"),
        (sine(0.5, 1), -65, "very loud"),
    ],
    ids=["silent", "quiet", "clipping", "loud"],
)
def test_what_is_wrong_with_a_microphone_is_said(sound: Sound | None, noise_dbfs: float | None, problem: str) -> None:
    (said,) = hear(sound, noise_dbfs).problems
    assert problem in said


def test_lost_blocks_and_missing_sound_are_said() -> None:
    good = MicrophoneCheck("m", 2.0, -20.0, -40.0, clipped=0, dropouts=0)
    assert "lost 7 blocks" in replace(good, dropouts=7).problems[0]
    assert "no sound at all" in replace(good, seconds=0.0).problems[0]
    played = SpeakerCheck("s", 0.02, underflows=0, echo_db=None, played=True)
    assert played.problems == []
    assert "ran dry 3 times" in replace(played, underflows=3).problems[0]
    assert "did not play" in replace(played, played=False).problems[0]


@pytest.mark.parametrize("echo_db", [None, -6.0, -20.0])
def test_the_tone_is_played_and_its_echo_measured(echo_db: float | None) -> None:
    with Room(echo_db=echo_db) as room, room.speaker as speaker, room.microphone as microphone:
        check = check_speaker(speaker, microphone)
        played: NDArray[np.float32] = room.heard()[0]
    assert check.played
    assert np.abs(played).max() == pytest.approx(0.1, abs=0.01)
    assert (check.echo_db is None) == (echo_db is None)
    if echo_db is not None and check.echo_db is not None:
        assert check.echo_db == pytest.approx(echo_db, abs=8)  # one tone meets one dent or peak of the room


# --- the command, in a room of PulseAudio


def devices(room: PulseRoom, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from vita_edge.cli import main; sys.exit(main(['devices', *sys.argv[1:]]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **room.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_devices_are_listed(pulse_room: PulseRoom) -> None:
    done = devices(pulse_room)
    assert (done.returncode, done.stderr) == (0, "")
    assert "microphones" in done.stdout and "speakers" in done.stdout and "cameras" in done.stdout
    facts = json.loads(devices(pulse_room, "--json").stdout)
    assert facts["test"] is None
    (default,) = (device for device in facts["microphones"] if device["default"])
    assert set(default) == {"index", "name", "channels", "sample_rate_hz", "default"}
    assert f"* {default['index']}  {default['name']}" in done.stdout


def test_a_silent_microphone_fails_the_test(pulse_room: PulseRoom) -> None:
    done = devices(pulse_room, "--test")
    assert done.returncode == 1
    assert "It is silent" in done.stdout
    assert "the microphone did not hear it" in done.stdout
    assert "nothing is wrong" in done.stdout  # with the speaker


def test_a_working_room_passes_the_test(pulse_room: PulseRoom) -> None:
    t = np.arange(20 * 16_000) / 16_000
    with pulse_room.echo(-6):
        saying = pulse_room.say((0.05 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32), 16_000)
        done = devices(pulse_room, "--test", "--json", "--input-device", "default", "--output-device", "puls")
        saying.terminate()
        saying.wait()
    facts: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert facts["test"]["microphone"]["problems"] == facts["test"]["speaker"]["problems"] == []
    assert facts["test"]["microphone"]["peak_dbfs"] == pytest.approx(-26, abs=1.5)
    assert facts["test"]["speaker"]["echo_db"] == pytest.approx(-6, abs=1.5)
    assert 0 < facts["test"]["speaker"]["latency_ms"] < 500


def test_a_device_that_is_not_there_is_told(pulse_room: PulseRoom) -> None:
    done = devices(pulse_room, "--test", "--input-device", "Jabra")
    assert done.returncode == 1
    assert "There is no microphone Jabra. There are" in done.stdout
    assert "nothing is wrong" in done.stdout  # with the speaker


def test_the_reference_lists_the_json_keys_of_devices(pulse_room: PulseRoom) -> None:
    from support.cli_page import documented_keys, printed_keys

    reported = documented_keys("devices")
    printed = set(printed_keys(json.loads(devices(pulse_room, "--test", "--json").stdout), reported))
    assert {key for key in reported - printed if "cameras[]" not in key} <= {"test"}
    assert printed <= reported | {"cameras", "test.cameras"}  # empty where there are none
