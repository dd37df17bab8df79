"""vita-edge devices [--test]"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import VitaEdgeError

from .output.show import print_json, table

if TYPE_CHECKING:
    from vita_edge.runtime.audio_io.portaudio import Direction, SoundDevice

__all__ = ["add_arguments", "run"]

CAMERA_WAIT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--test",
        action="store_true",
        help="listen for 2 s, play a soft tone, take a picture with each camera; exit 1 if something is wrong",
    )
    parser.add_argument(
        "--input-device", metavar="D", help="microphone to test, by index or part of its name (default: the system's)"
    )
    parser.add_argument(
        "--output-device", metavar="D", help="speaker to test, by index or part of its name (default: the system's)"
    )


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.runtime.audio_io.portaudio import sound_devices

    devices = sound_devices()
    cameras = _cameras()
    facts: dict[str, Any] = {
        "microphones": _listed(devices, "input"),
        "speakers": _listed(devices, "output"),
        "cameras": cameras,
        "test": None,
    }
    if not arguments.json:
        _print_list(facts)
    if arguments.test:
        if not arguments.json:
            print("\nListening for 2 s, then playing a soft tone …", flush=True)
        facts["test"] = _test(arguments.input_device, arguments.output_device, cameras)
    if arguments.json:
        print_json(facts)
    elif arguments.test:
        _print_test(facts["test"])
    return 1 if facts["test"] and any(check["problems"] for check in _checks(facts["test"])) else 0


def _listed(devices: Sequence[SoundDevice], direction: Direction) -> list[dict[str, Any]]:
    return [
        {
            "index": device.index,
            "name": device.name,
            "channels": device.channels(direction),
            "sample_rate_hz": device.rate_hz,
            "default": device.default_input if direction == "input" else device.default_output,
        }
        for device in devices
        if device.channels(direction)
    ]


def _cameras() -> list[dict[str, Any]]:
    from vita_edge.runtime.encoders.camera_sources import video_devices

    return [asdict(device) for device in video_devices()]


def _test(microphone: str | None, speaker: str | None, cameras: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from vita_edge.runtime.audio_io.device_check import check_microphone, check_speaker
    from vita_edge.runtime.audio_io.sound_devices import SoundMicrophone, SoundSpeaker

    with ExitStack() as stack:
        result: dict[str, Any] = {}
        ear = None
        try:
            ear = stack.enter_context(SoundMicrophone(microphone))
            heard = check_microphone(ear)
            result["microphone"] = {**asdict(heard), "problems": heard.problems}
        except VitaEdgeError as error:
            result["microphone"] = _refused(error)
        try:
            played = check_speaker(stack.enter_context(SoundSpeaker(speaker)), ear)
            result["speaker"] = {
                "name": played.name,
                "latency_ms": round(played.latency_s * 1000, 1),
                "underflows": played.underflows,
                "echo_db": played.echo_db,
                "problems": played.problems,
            }
        except VitaEdgeError as error:
            result["speaker"] = _refused(error)
    result["cameras"] = [_test_camera(camera) for camera in cameras]
    return result


def _test_camera(camera: dict[str, Any]) -> dict[str, Any]:
    from vita_edge.runtime.encoders.camera import Camera

    try:
        with Camera(camera["index"]) as opened:
            give_up_s = time.monotonic() + CAMERA_WAIT_S
            while (frame := opened.newest()) is None and time.monotonic() < give_up_s:
                time.sleep(0.05)
    except VitaEdgeError as error:
        return {**camera, "size": None, "problems": [f"{error.what} {error.why}"]}
    if frame is None:
        return {**camera, "size": None, "problems": [f"It gave no picture within {CAMERA_WAIT_S:g} s."]}
    return {**camera, "size": [frame.pixels.shape[1], frame.pixels.shape[0]], "problems": []}


def _refused(error: VitaEdgeError) -> dict[str, Any]:
    return {"name": None, "problems": [" ".join(part for part in (error.what, error.why, error.fix) if part)]}


def _checks(test: dict[str, Any]) -> list[dict[str, Any]]:
    return [test["microphone"], test["speaker"], *test["cameras"]]


def _print_list(facts: dict[str, Any]) -> None:
    for title, key in (("microphones", "microphones"), ("speakers", "speakers")):
        rows = [("", title, "channels", "Hz")]
        rows += [
            (f"{'*' if d['default'] else ' '} {d['index']}", d["name"], str(d["channels"]), str(d["sample_rate_hz"]))
            for d in facts[key]
        ]
        print(table(rows, left=2) if facts[key] else f"    {title}: none", end="\n\n")
    cameras = [(f"  {camera['index']}", camera["name"]) for camera in facts["cameras"]]
    print(table([("", "cameras"), *cameras], left=2) if cameras else "    cameras: none")
    if facts["microphones"] or facts["speakers"]:
        print("\n* is used where none is chosen")


def _print_test(test: dict[str, Any]) -> None:
    microphone, speaker = test["microphone"], test["speaker"]
    if "peak_dbfs" in microphone:
        lost = f", {microphone['dropouts']} blocks lost" if microphone["dropouts"] else ""
        level = f"peak {microphone['peak_dbfs']:.0f} dBFS, RMS {microphone['rms_dbfs']:.0f} dBFS{lost}"
        print(f"microphone {microphone['name']}: {level}")
    _print_problems("microphone", microphone)
    if "latency_ms" in speaker:
        echo = speaker["echo_db"]
        heard = "the microphone did not hear it" if echo is None else f"the microphone heard it at {echo:+.0f} dB"
        print(f"speaker {speaker['name']}: {speaker['latency_ms']:.0f} ms until a sample sounds; {heard}")
    _print_problems("speaker", speaker)
    for camera in test["cameras"]:
        size = "{} x {} pixels".format(*camera["size"]) if camera["size"] else "no picture"
        print(f"camera {camera['index']}: {size}")
        _print_problems(f"camera {camera['index']}", camera)


def _print_problems(what: str, check: dict[str, Any]) -> None:
    if not check["problems"]:
        print("  nothing is wrong")
    for problem in check["problems"]:
        print(f"  {problem}" if check.get("name") else f"{what}: {problem}")
