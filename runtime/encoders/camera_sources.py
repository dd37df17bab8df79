"""What a camera may be called by, and how each kind is opened."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vita_edge.engines.errors import DeviceFailed

__all__ = ["CameraSource", "Kind", "VideoDevice", "find_source", "open_capture", "refusal", "video_devices"]

Kind: TypeAlias = Literal["device", "file", "stream", "pipeline"]
STREAM_TIMEOUT_MS = 3000
DEVICES, NAMES = Path("/dev"), Path("/sys/class/video4linux")
SINK = " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
"""What a pipeline without a sink of its own ends in: the newest picture, as OpenCV wants it."""


@dataclass(frozen=True)
class VideoDevice:
    """A video device of Linux; some of them give no pictures."""

    index: int
    name: str
    """What its driver calls it."""


@dataclass(frozen=True)
class CameraSource:
    """Where pictures come from."""

    kind: Kind
    target: str
    """A path, an address, or a pipeline."""
    name: str


def video_devices() -> list[VideoDevice]:
    """Every /dev/video*, in order."""
    found = []
    for path in DEVICES.glob("video[0-9]*"):
        if path.name.removeprefix("video").isdecimal():
            file = NAMES / path.name / "name"
            name = file.read_text("utf-8", "replace").strip() if file.is_file() else path.name
            found.append(VideoDevice(int(path.name.removeprefix("video")), name))
    return sorted(found, key=lambda device: device.index)


def find_source(requested: int | str | Path) -> CameraSource:
    """What ``wanted`` means: an index, a device by its path, a name, a file, an address, or a GStreamer pipeline.

    Raises:
        DeviceFailed: there is nothing of that name.
    """
    text = str(requested).strip()
    if isinstance(requested, int) or text.isdecimal():
        return CameraSource("device", str(DEVICES / f"video{int(text)}"), f"camera {int(text)}")
    if re.search(r"\s!\s", text):
        return CameraSource("pipeline", text, "the pipeline")
    if "://" in text:
        return CameraSource("stream", text, text)
    if text.startswith(f"{DEVICES}/"):
        return CameraSource("device", text, text)
    if Path(text).is_file():
        return CameraSource("file", text, text)
    if named := _by_name(text):
        return CameraSource("device", str(DEVICES / f"video{named.index}"), f"camera {named.name}")
    looks_like_path = "/" in text or re.search(r"\.\w{2,4}$", text)
    why = "There is no such file." if looks_like_path else f"No camera is called so. {_there()}"
    raise DeviceFailed(f"There is no picture from {text}.", why=why, fix="Choose another camera.")


def open_capture(cv2: Any, source: CameraSource) -> Any | None:
    """An opened capture, or None."""
    if source.kind == "device":
        capture = _device(cv2, source)
    elif source.kind == "stream":
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_TIMEOUT_MS]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_TIMEOUT_MS]
        capture = cv2.VideoCapture(source.target, cv2.CAP_FFMPEG, timeouts)
    elif source.kind == "pipeline":
        pipeline = source.target if "appsink" in source.target else source.target + SINK
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER) if _has_gstreamer(cv2) else None
    else:
        capture = cv2.VideoCapture(str(Path(source.target).resolve())) if Path(source.target).is_file() else None
    if capture is None or capture.isOpened():
        return capture
    capture.release()
    return None


def refusal(cv2: Any, source: CameraSource) -> DeviceFailed:
    """Why ``source`` gives no picture, and what to do."""
    fix = "Choose another camera."
    if source.kind == "device":
        why, fix = _why_no_device(source)
    elif source.kind == "stream":
        why = "Nobody answers there with a stream that OpenCV can read."
    elif source.kind == "file":
        why = "It is no video that OpenCV can read."
    elif _has_gstreamer(cv2):
        why, fix = "GStreamer cannot start it, or it gives no picture.", "Try it with gst-launch-1.0 first."
    else:
        why = "This OpenCV was built without GStreamer, as its wheels are."
        fix = "Use an OpenCV with GStreamer, such as JetPack's, or give the camera's index, path or stream address."
    return DeviceFailed(f"There is no picture from {source.name}.", why=why, fix=fix)


def _device(cv2: Any, source: CameraSource) -> Any | None:
    path = Path(source.target).resolve()  # by-id is a link, which may lead elsewhere after the camera was plugged in
    if not path.exists():
        return None  # asked, OpenCV would write its complaints to the terminal
    number = path.name.removeprefix("video")
    capture = cv2.VideoCapture(int(number) if number.isdecimal() else str(path))
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _why_no_device(source: CameraSource) -> tuple[str, str]:
    path = Path(source.target)
    if not path.exists():
        return (f"There is no {path}. {_there()}", "Plug it in, or choose another camera.")
    if not os.access(path, os.R_OK | os.W_OK):
        return (f"You may not read {path}.", "Add yourself to the group of cameras: sudo usermod -aG video $USER.")
    why = f"{path} is there, but gives no picture: another program may use it, or it is not the one with the pictures."
    return (why, "End that program, or choose another of the camera's numbers; `vita-edge devices --test` tries all.")


def _by_name(text: str) -> VideoDevice | None:
    """The first device with that name, or the only name of which it is a part."""
    devices, part = video_devices(), text.lower()
    if exact := [device for device in devices if device.name.lower() == part]:
        return exact[0]
    holding = [device for device in devices if part and part in device.name.lower()]
    return holding[0] if len({device.name for device in holding}) == 1 else None


def _there() -> str:
    devices = [f"{device.index} ({device.name})" for device in video_devices()]
    return f"There are {', '.join(devices)}." if devices else "There is no /dev/video*."


def _has_gstreamer(cv2: Any) -> bool:
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None
