"""The newest frame of a camera, a file or a stream, for as long as there is one."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import DeviceFailed, MissingPackage
from vita_edge.engines.install import install_fix

__all__ = ["Camera", "Frame"]

STALE_S = 3.0
"""A camera that gives no frame for so long is lost, though it may only hang."""
STREAM_TIMEOUT_MS = 3000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
LEAVING_S = 0.5


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


class Camera:
    """Reads on a thread of its own, so that no frame waits in a queue, and opens the camera again when it has gone."""

    def __init__(self, source: int | str | Path, *, frames_per_s: float = 8.0) -> None:
        """
        Args:
            source: an index, a file, or the URL of a stream. A file plays at its own rate, and begins again at its end.
            frames_per_s: decoded at most; the others are passed over.
        """
        self._source = int(source) if isinstance(source, str) and source.isdecimal() else source
        self._apart_s = 1 / frames_per_s
        self._newest: Frame | None = None
        self._frames = 0
        self._open = False
        self._seen_s = 0.0
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return f"camera {self._source}" if isinstance(self._source, int) else str(self._source)

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
        cv2 = _opencv(self.name)
        capture = self._capture(cv2)
        if capture is None:
            raise DeviceFailed(f"There is no picture from {self.name}.", why=self._why(), fix="Choose another camera.")
        self._leaving = threading.Event()
        self._newest, self._frames = None, 0
        self._open, self._seen_s = True, time.monotonic()
        self._thread = threading.Thread(
            target=self._watch, args=(cv2, capture, self._leaving), name=self.name, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if self._thread:
            self._thread.join(LEAVING_S)  # a camera that hangs is left to itself

    def _capture(self, cv2: Any) -> Any | None:
        """An opened capture, or None."""
        if isinstance(self._source, int):
            if Path("/dev").exists() and not Path(f"/dev/video{self._source}").exists():
                return None  # asked, OpenCV would write its complaints to the terminal
            capture = cv2.VideoCapture(self._source)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        elif self._is_stream:
            timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_TIMEOUT_MS]
            timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_TIMEOUT_MS]
            capture = cv2.VideoCapture(str(self._source), cv2.CAP_FFMPEG, timeouts)
        elif self._is_file:
            capture = cv2.VideoCapture(str(Path(self._source).resolve()))
        else:
            return None
        if capture.isOpened():
            return capture
        capture.release()
        return None

    @property
    def _is_stream(self) -> bool:
        return isinstance(self._source, str) and "://" in self._source

    @property
    def _is_file(self) -> bool:
        return not isinstance(self._source, int) and not self._is_stream and Path(self._source).is_file()

    def _why(self) -> str:
        if isinstance(self._source, int):
            there = sorted(path.name for path in Path("/dev").glob("video[0-9]*"))
            return f"There are {', '.join(there)}." if there else "There is no /dev/video*."
        if self._is_stream:
            return "Nobody answers there with a stream that OpenCV can read."
        return "It is no video that OpenCV can read." if self._is_file else "There is no such file."

    def _watch(self, cv2: Any, capture: Any | None, leaving: threading.Event) -> None:
        wait_s = FIRST_WAIT_S
        while not leaving.is_set():
            given = 0
            if capture is not None:
                given = self._read(cv2, capture, leaving)
                capture.release()
            if given:
                wait_s = FIRST_WAIT_S
            if not (given and self._is_file):  # the end of a file is its beginning
                self._open, self._newest = False, None
                leaving.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            capture = None if leaving.is_set() else self._capture(cv2)

    def _read(self, cv2: Any, capture: Any, leaving: threading.Event) -> int:
        """Keep the newest frame until the capture ends; how many it gave."""
        rate = float(capture.get(cv2.CAP_PROP_FPS)) if self._is_file else 0.0
        begin_s, decoded_s, count = time.monotonic(), -self._apart_s, 0
        while not leaving.is_set() and capture.grab():
            if 0 < rate < 1000 and leaving.wait(max(begin_s + count / rate - time.monotonic(), 0)):
                break
            now_s = time.monotonic()
            if now_s - decoded_s >= self._apart_s:
                found, picture = capture.retrieve()
                if not found:
                    break
                pixels: NDArray[np.uint8] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                pixels.flags.writeable = False
                self._newest, decoded_s = Frame(pixels, now_s, self._frames), now_s
            self._seen_s, self._open = now_s, True
            self._frames += 1
            count += 1
        return count


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
