"""The newest frame is the newest, with its time; what vanishes comes back; a missing camera is told plainly."""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.pulse import wait_until
from vita_edge.engines.errors import DeviceFailed, MissingPackage
from vita_edge.runtime.encoders.camera import Camera, Frame


def write_clip(path: Path, frames: int, fps: float) -> None:
    """Frame i is 8 i bright in red, and without blue."""
    cv2: Any = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), (0, 0, i * 8), np.uint8))
    writer.release()


def position(frame: Frame) -> int:
    """Which frame of the clip it is."""
    return round(float(frame.pixels[..., 0].mean()) / 8)


def see(camera: Camera) -> Frame:
    wait_until(lambda: camera.newest() is not None)
    frame = camera.newest()
    assert frame is not None
    return frame


def test_a_file_plays_at_its_own_rate_and_begins_again(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", frames=20, fps=10)
    with Camera(tmp_path / "clip.avi", frames_per_s=100) as camera:
        begin_s = time.monotonic()
        first = see(camera)
        wait_until(lambda: see(camera).number >= 15)
        later = see(camera)
        assert (position(first), position(later)) == (first.number, later.number)
        assert later.at_s - begin_s == pytest.approx(later.number / 10, abs=0.3)
        wait_until(lambda: see(camera).number >= 22)
        again = see(camera)
        assert position(again) == again.number - 20
        assert not camera.lost
    assert first.pixels.shape == (48, 64, 3)
    assert first.pixels.dtype == np.uint8
    assert later.pixels[..., 2].max() < 10 < later.pixels[..., 0].min()  # red comes first
    with pytest.raises(ValueError, match="read-only"):
        first.pixels[0] = 0


def test_frames_between_those_that_are_wanted_are_passed_over(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", frames=30, fps=30)
    numbers = set()
    with Camera(str(tmp_path / "clip.avi"), frames_per_s=5) as camera:
        end_s = time.monotonic() + 0.9
        while time.monotonic() < end_s:
            numbers.add(see(camera).number)
    assert 3 <= len(numbers) <= 6
    assert max(numbers) > 15


def test_a_file_that_vanishes_is_waited_for(tmp_path: Path) -> None:
    clip, away = tmp_path / "clip.avi", tmp_path / "away.avi"
    write_clip(clip, frames=5, fps=20)
    with Camera(clip) as camera:
        before = see(camera)
        clip.rename(away)
        wait_until(lambda: camera.lost)
        assert camera.newest() is None
        away.rename(clip)
        wait_until(lambda: not camera.lost)
        assert see(camera).number > before.number


class Pictures(BaseHTTPRequestHandler):
    """Sends pictures as cameras in a network do, until the server goes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        picture = io.BytesIO()
        Image.new("RGB", (64, 48), (200, 0, 0)).save(picture, "JPEG")
        part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % picture.tell()
        try:
            while not self.server.going.wait(0.02):  # type: ignore[attr-defined]
                self.wfile.write(part + picture.getvalue() + b"\r\n")
        except OSError:
            pass  # nobody looks any longer

    def log_message(self, format: str, *args: object) -> None:
        """Not to the terminal."""


class PictureServer(ThreadingHTTPServer):
    """Open with ``with``; leaving ends all streams."""

    def __init__(self, port: int) -> None:
        self.going = threading.Event()
        super().__init__(("127.0.0.1", port), Pictures)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *args: object) -> None:
        self.going.set()
        self.shutdown()
        super().__exit__(*args)


def test_a_stream_that_breaks_off_is_opened_again() -> None:
    pytest.importorskip("cv2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        with PictureServer(port):
            camera = stack.enter_context(Camera(f"http://127.0.0.1:{port}/stream.mjpg"))
            frame = see(camera)
            assert frame.pixels[0, 0, 0] > 150 > 50 > frame.pixels[0, 0, 2]
        wait_until(lambda: camera.lost)
        with PictureServer(port):
            wait_until(lambda: not camera.lost)
            assert see(camera).number > 0


def test_leaving_is_quick_and_may_be_followed_by_entering(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", frames=10, fps=1)
    camera = Camera(tmp_path / "clip.avi")
    for _ in range(2):
        with camera:
            see(camera)
            begin_s = time.monotonic()
        assert time.monotonic() - begin_s < 0.4
        assert camera.lost and camera.newest() is None


@pytest.mark.parametrize(
    ("source", "why"),
    [("no-such-file.mp4", "no such file"), ("99", "/dev/video"), (99, "/dev/video"), (__file__, "no video")],
)
def test_a_camera_that_is_not_there_is_told(source: int | str, why: str) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(DeviceFailed, match="There is no picture") as failure, Camera(source):
        pass
    assert why in failure.value.why or "There are video" in failure.value.why


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackage, match="Cannot see through camera 0"), Camera(0):
        pass
