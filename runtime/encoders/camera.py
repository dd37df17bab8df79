"""The newest frame of a camera, a file or a stream, for as long as there is one."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput, MissingPackage, Misuse
from vita_edge.engines.install import install_fix

from .camera_sources import CameraSource, find_source, open_capture, refusal
from .picture_array import as_picture

__all__ = ["Camera", "Frame", "FrameSource"]

STALE_S = 3.0
"""A camera that gives no frame for so long is lost, though it may only hang."""
TURNS = {0: 0, 90: 1, 180: 2, 270: 3}
"""Quarter turns by degrees."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
LEAVING_S = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """A picture of the camera.

    Attributes:
        pixels: uint8 [H, W, 3], RGB, not to be written to.
        at_s: ``time.monotonic()`` when it was taken from the camera.
        number: counts the frames that the camera gave, from 0.
    """

    pixels: NDArray[np.uint8]
    at_s: float
    number: int


class FrameSource(Protocol):
    """Gives its newest frame, or none while it has none: a camera, a topic, whatever a program puts there."""

    @property
    def lost(self) -> bool:
        """It is gone, and is waited for."""
        ...

    def newest(self) -> Frame | None: ...


class Camera:
    """Reads on a thread of its own, so that no frame waits in a queue, and opens the camera again when it has gone."""

    def __init__(
        self, source: int | str | Path, *, frames_per_s: float = 8.0, rotate: int = 0, mirror: bool = False
    ) -> None:
        """
        Args:
            source: an index, a path such as /dev/v4l/by-id/…, a name, a file, the URL of a stream, or a GStreamer
                pipeline. A file plays at its own rate, and begins again at its end.
            frames_per_s: decoded at most; the others are passed over.
            rotate: degrees by which a picture is turned clockwise: 0, 90, 180 or 270.
            mirror: swap left and right, after it is turned.

        Raises:
            Misuse: ``rotate`` is another number.
        """
        if rotate not in TURNS:
            raise Misuse(
                f"rotate is {rotate}.", why="A picture is turned by 0, 90, 180 or 270.", fix="Give one of these."
            )
        self._requested = source
        self._source: CameraSource | None = None
        self._turns, self._mirror = TURNS[rotate], mirror
        self.skipped = 0
        """Frames that were no pictures."""
        self._apart_s = 1 / frames_per_s
        self._newest: Frame | None = None
        self._frames = 0
        self._open = False
        self._seen_s = 0.0
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self._source.name if self._source else str(self._requested)

    @property
    def lost(self) -> bool:
        """The camera is gone or hangs, and is waited for."""
        left = not self._open or self._leaving.is_set()
        return left or time.monotonic() - self._seen_s > STALE_S

    def newest(self) -> Frame | None:
        """The newest frame; None before the first, and while the camera is lost: what is gone is not seen."""
        return None if self.lost else self._newest

    def __enter__(self) -> Camera:
        """
        Raises:
            DeviceFailed: there is no such camera, file or stream, or it gives no picture.
            MissingPackage: OpenCV is not installed.
        """
        self._source = source = find_source(self._requested)
        cv2 = _opencv(self.name)
        capture = open_capture(cv2, source)
        if capture is None:
            raise refusal(cv2, source)
        self._leaving = threading.Event()
        self._newest, self._frames = None, 0
        self._open, self._seen_s = True, time.monotonic()
        self._thread = threading.Thread(
            target=self._watch, args=(cv2, source, capture, self._leaving), name=self.name, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if self._thread:
            self._thread.join(LEAVING_S)  # a camera that hangs is left to itself

    def _watch(self, cv2: Any, source: CameraSource, capture: Any | None, leaving: threading.Event) -> None:
        wait_s = FIRST_WAIT_S
        while not leaving.is_set():
            given = 0
            if capture is not None:
                given = self._read(cv2, source, capture, leaving)
                capture.release()
            if given:
                wait_s = FIRST_WAIT_S
            if not (given and source.kind == "file"):  # the end of a file is its beginning
                self._open, self._newest = False, None
                leaving.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            capture = None if leaving.is_set() else open_capture(cv2, source)

    def _read(self, cv2: Any, source: CameraSource, capture: Any, leaving: threading.Event) -> int:
        """Keep the newest frame until the capture ends; how many it gave."""
        rate = float(capture.get(cv2.CAP_PROP_FPS)) if source.kind == "file" else 0.0
        begin_s, decoded_s, count = time.monotonic(), -self._apart_s, 0
        while not leaving.is_set() and capture.grab():
            if 0 < rate < 1000 and leaving.wait(max(begin_s + count / rate - time.monotonic(), 0)):
                break
            now_s = time.monotonic()
            if now_s - decoded_s >= self._apart_s:
                found, picture = capture.retrieve()
                if not found:
                    break
                decoded_s = now_s
                if (pixels := self._picture(picture)) is not None:
                    self._newest = Frame(pixels, now_s, self._frames)
            self._seen_s, self._open = now_s, True
            self._frames += 1
            count += 1
        return count

    def _picture(self, picture: Any) -> NDArray[np.uint8] | None:
        """RGB, turned; None for what is no picture, which is passed over."""
        try:
            pixels = as_picture(picture, f"A frame of {self.name}")[..., ::-1]
        except BadInput as error:
            self.skipped += 1
            if self.skipped == 1:
                _log.warning("%s %s", error.what, error.why)
            return None
        pixels = np.rot90(pixels, -self._turns)
        pixels = np.ascontiguousarray(pixels[:, ::-1] if self._mirror else pixels)
        pixels.flags.writeable = False
        return pixels


def _opencv(camera: str) -> ModuleType:
    # OpenCV and its FFmpeg would tell the terminal of each try to reach a camera that is lost
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise MissingPackage(
            f"Cannot see through {camera}.",
            why="OpenCV reads cameras, and is not installed.",
            fix=install_fix("live"),
        ) from error
    return cv2
