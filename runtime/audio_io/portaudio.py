"""PortAudio: whether it is here, which devices it knows, and which of them somebody means."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from vita_edge.engines.errors import DeviceFailed, MissingPackage
from vita_edge.engines.install import install_fix

__all__ = [
    "PORTAUDIO",
    "Direction",
    "SoundDevice",
    "choose",
    "find_again",
    "load",
    "rescan",
    "silent_stderr",
    "sound_devices",
]

Direction = Literal["input", "output"]

PORTAUDIO = threading.RLock()
"""Held by whoever opens, closes or lists: PortAudio is one for the process and not safe for threads."""


@dataclass(frozen=True)
class SoundDevice:
    """A device as PortAudio lists it.

    Attributes:
        index: its number in the list, until devices come or go.
        inputs, outputs: channels at most; 0: none in that direction.
        rate_hz: the rate at which it runs by itself.
        default_input, default_output: it is what the system uses where nobody chose.
    """

    index: int
    name: str
    inputs: int
    outputs: int
    rate_hz: int
    default_input: bool
    default_output: bool

    def channels(self, direction: Direction) -> int:
        return self.inputs if direction == "input" else self.outputs


@cache
def load() -> ModuleType:
    """sounddevice, with PortAudio started.

    Raises:
        MissingPackage: sounddevice or PortAudio itself is not installed.
    """
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "Microphones and speakers need the package sounddevice.",
            why="It is not installed: only the live talk needs it.",
            fix=install_fix("live"),
        ) from error
    except OSError as error:
        raise MissingPackage(
            "Microphones and speakers need PortAudio.",
            why=f"{error}.".replace("..", "."),
            fix="apt-get install libportaudio2",
        ) from error
    _quieten_alsa()
    return sounddevice


def rescan() -> None:
    """Let PortAudio look for devices anew. All streams of the process have to be closed before."""
    sounddevice = load()
    with PORTAUDIO:
        sounddevice._terminate()
        sounddevice._initialize()


def sound_devices() -> list[SoundDevice]:
    """The devices that PortAudio knows, in its order.

    Raises:
        MissingPackage: see :func:`load`.
        DeviceFailed: PortAudio cannot list them.
    """
    sounddevice = load()
    with PORTAUDIO:
        try:
            listed: list[dict[str, Any]] = list(sounddevice.query_devices())
            used = sounddevice.default.device
        except sounddevice.PortAudioError as error:
            why = f"PortAudio says: {error}."
            raise DeviceFailed("The sound devices cannot be listed.", why=why, fix="Check the sound system.") from error
    return [
        SoundDevice(
            index=entry["index"],
            name=entry["name"],
            inputs=entry["max_input_channels"],
            outputs=entry["max_output_channels"],
            rate_hz=round(entry["default_samplerate"]),
            default_input=entry["index"] == used[0],
            default_output=entry["index"] == used[1],
        )
        for entry in listed
    ]


def choose(requested: int | str | None, direction: Direction) -> SoundDevice:
    """The device that is meant by an index, a name, a part of a name (any case), or nothing: the default.

    Raises:
        DeviceFailed: there is none, or several have that part in their names.
    """
    kind = "microphone" if direction == "input" else "speaker"
    devices = [device for device in sound_devices() if device.channels(direction)]
    there = "; ".join(f"{device.index}: {device.name}" for device in devices)
    if not devices:
        why = "PortAudio lists no device with a channel in that direction."
        raise DeviceFailed(f"There is no {kind}.", why=why, fix="Plug one in, and check with `vita-edge devices`.")
    if requested is None:
        return next((d for d in devices if (d.default_input if direction == "input" else d.default_output)), devices[0])
    if isinstance(requested, int) or requested.isdecimal():
        found = [device for device in devices if device.index == int(requested)]
    else:
        whole = [device for device in devices if device.name.lower() == requested.lower()]
        found = whole[:1] or [device for device in devices if requested.lower() in device.name.lower()]
    if not found:
        raise DeviceFailed(f"There is no {kind} {requested}.", why=f"There are {there}.", fix="Choose one of these.")
    if len(found) > 1:
        meant = "; ".join(f"{device.index}: {device.name}" for device in found)
        raise DeviceFailed(
            f"{requested} could be several {kind}s.", why=f"It fits {meant}.", fix="Give more of the name."
        )
    return found[0]


def find_again(device: SoundDevice, direction: Direction) -> SoundDevice | None:
    """``device`` in the list of now: of the same name, or alike but for the number of the card, which may change."""
    devices = [other for other in sound_devices() if other.channels(direction)]
    alike = [other for other in devices if _without_card(other.name) == _without_card(device.name)]
    return next((other for other in alike if other.name == device.name), alike[0] if alike else None)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """PortAudio writes lines about every device that does not open, straight to the terminal: not while one is tried
    again and again. What other threads write meanwhile is lost too, so it is kept short."""
    retained = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(retained, 2)
        os.close(retained)


def _without_card(name: str) -> str:
    return re.sub(r"\s*\(hw:\d+,\d+\)$", "", name)


_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)(
    lambda *_: None
)
"""Kept alive by the module, since ALSA keeps the address."""


def _quieten_alsa() -> None:
    """ALSA writes about every underrun to standard error, into the middle of whatever stands on the terminal."""
    try:
        set_handler = ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler
    except (OSError, AttributeError):
        return
    set_handler(_SILENT)
