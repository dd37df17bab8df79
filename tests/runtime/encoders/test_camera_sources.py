"""What a camera may be called by, and errors that fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vita_edge.engines.errors import DeviceFailed, Misuse
from vita_edge.runtime.encoders import camera_sources
from vita_edge.runtime.encoders.camera import Camera
from vita_edge.runtime.encoders.camera_sources import find_source, video_devices


@pytest.fixture
def two_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders as those of Linux, with files in the place of devices: a webcam with two nodes, and a capture card."""
    devices, names = tmp_path / "dev", tmp_path / "names"
    for number, name in ((0, "HD Pro Webcam C920"), (1, "HD Pro Webcam C920"), (10, "Cam Link 4K")):
        (names / f"video{number}").mkdir(parents=True)
        (names / f"video{number}" / "name").write_text(name + "\n")
        devices.mkdir(exist_ok=True)
        (devices / f"video{number}").write_bytes(b"")
    (devices / "v4l" / "by-id").mkdir(parents=True)
    (devices / "v4l" / "by-id" / "usb-camera").symlink_to("../../video10")
    monkeypatch.setattr(camera_sources, "DEVICES", devices)
    monkeypatch.setattr(camera_sources, "NAMES", names)
    return devices


def test_devices_are_listed_by_number_and_name(two_cameras: Path) -> None:
    assert [(device.index, device.name) for device in video_devices()] == [
        (0, "HD Pro Webcam C920"),
        (1, "HD Pro Webcam C920"),
        (10, "Cam Link 4K"),
    ]


def test_a_camera_is_called_by_index_path_link_name_or_address(two_cameras: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    for requested, kind, target in (
        (10, "device", two_cameras / "video10"),
        ("1", "device", two_cameras / "video1"),
        (f"{two_cameras}/video0", "device", two_cameras / "video0"),
        (f"{two_cameras}/v4l/by-id/usb-camera", "device", two_cameras / "v4l/by-id/usb-camera"),
        ("Cam Link 4K", "device", two_cameras / "video10"),
        ("link", "device", two_cameras / "video10"),
        ("webcam", "device", two_cameras / "video0"),
        (clip, "file", clip),
        ("rtsp://10.0.0.7/live", "stream", "rtsp://10.0.0.7/live"),
        ("nvarguscamerasrc ! nvvidconv ! appsink", "pipeline", "nvarguscamerasrc ! nvvidconv ! appsink"),
    ):
        source = find_source(requested)
        assert (source.kind, source.target) == (kind, str(target)), requested


def test_what_is_not_there_is_named_with_what_is(two_cameras: Path) -> None:
    with pytest.raises(DeviceFailed, match=r"No camera is called so\. There are 0 .HD Pro Webcam C920."):
        find_source("Logitech")
    with pytest.raises(DeviceFailed, match="No camera is called so"):
        find_source("c")  # both have it
    with pytest.raises(DeviceFailed, match="no such file"):
        find_source("clips/missing.mp4")


def test_a_device_that_is_missing_busy_or_forbidden_is_told_apart(
    two_cameras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2: Any = pytest.importorskip("cv2")
    refusal = camera_sources.refusal(cv2, find_source(7))
    assert f"There is no {two_cameras}/video7. There are 0" in refusal.why
    assert "is there, but gives no picture" in camera_sources.refusal(cv2, find_source(0)).why
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "usermod -aG video" in camera_sources.refusal(cv2, find_source(0)).fix


def test_a_pipeline_without_gstreamer_is_refused_with_the_reason() -> None:
    cv2: Any = pytest.importorskip("cv2")
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(DeviceFailed, match="built without GStreamer"), Camera("videotestsrc ! appsink"):
        pass


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
def test_pictures_are_turned_clockwise_and_mirrored(rotate: int, mirror: bool) -> None:
    camera = Camera(0, rotate=rotate, mirror=mirror)
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    turned = camera._picture(picture[..., ::-1])  # OpenCV has blue first
    want = np.rot90(picture, -rotate // 90)
    np.testing.assert_array_equal(turned, want[:, ::-1] if mirror else want)
    with pytest.raises(Misuse, match="rotate is 45"):
        Camera(0, rotate=45)


def test_a_frame_that_is_no_picture_is_passed_over() -> None:
    camera = Camera(0)
    for bad in (np.zeros((0, 0, 3), np.uint8), None, np.full((4, 4, 3), np.nan)):
        assert camera._picture(bad) is None
    assert camera.skipped == 3
    gray = camera._picture(np.full((4, 6), 9, np.uint8))
    assert gray is not None and gray.shape == (4, 6, 3)
