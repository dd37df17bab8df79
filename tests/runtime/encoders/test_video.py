"""Choosing and reading the frames of a clip."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vita_edge.engines.errors import BadInput, MissingPackage
from vita_edge.runtime.encoders import image_file
from vita_edge.runtime.encoders import video as video_module
from vita_edge.runtime.encoders.video import live_positions, read_frames, sample_positions

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="no golden data here")


def live(frame_count: int, fps: float) -> list[int]:
    return live_positions(frame_count)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twenty frames at ten a second; frame i is i * 12 bright in red and 0 in blue."""
    cv2: Any = pytest.importorskip("cv2")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(20):
        writer.write(np.full((48, 64, 3), (0, 0, i * 12), np.uint8))
    writer.release()
    return path


@pytest.fixture
def frame_list(tmp_path: Path) -> Callable[..., Path]:
    for i in range(6):
        Image.new("RGB", (4, 3), (i, 0, 0)).save(tmp_path / f"{i}.png")

    def write(**data: object) -> Path:
        path = tmp_path / "clip.json"
        path.write_text(json.dumps(data))
        return path

    return write


@needs_golden
def test_the_golden_clips_are_sampled_as_the_reference_samples_them() -> None:
    for case in json.loads((GOLDEN / "common" / "common.json").read_text())["frame_sampling"]:
        count, fps = case["frames"], case["fps"]
        assert sample_positions(count, fps) == case["one_per_second"], case
        assert live_positions(count) == case["live"], case
        if case["from_1s_to_3s"] is None:
            with pytest.raises(BadInput, match="no frames"):
                sample_positions(count, fps, 1, 3)
        else:
            assert sample_positions(count, fps, 1, 3) == case["from_1s_to_3s"], case


def test_frames_are_sampled_once_a_second_between_four_and_sixteen() -> None:
    assert sample_positions(150, 30.0) == [0, 30, 60, 90, 120]
    assert sample_positions(1, 30.0) == [0, 0, 0, 0]
    assert sample_positions(60, 0.2) == sample_positions(60, 1.0)
    assert len(sample_positions(10**12, 25.0)) == 16
    assert sample_positions(300, 30.0, start_s=2.5, end_s=None) == [75, 105, 135, 165, 195, 225, 255, 285]
    assert sample_positions(300, 30.0, end_s=0) == [0, 0, 0, 0]
    assert live_positions(8) == [0, 2, 4, 7]


@pytest.mark.parametrize(
    ("count", "fps", "start_s", "end_s"),
    [
        (0, 25.0, None, None),
        (50, 25.0, 2.0, None),
        (50, 25.0, 1.5, 1.0),
        (50, 25.0, -1.0, 1.0),
        (50, 25.0, 0.0, -1.0),
        (50, 0.0, None, None),
        (50, float("nan"), None, None),
        (50, float("inf"), None, None),
    ],
)
def test_a_range_without_frames_is_refused(count: int, fps: float, start_s: float | None, end_s: float | None) -> None:
    with pytest.raises(BadInput) as error:
        sample_positions(count, fps, start_s, end_s)
    assert error.value.fix


def test_a_camera_without_frames_is_refused() -> None:
    with pytest.raises(BadInput):
        live_positions(0)


def test_a_list_of_pictures_is_a_clip(frame_list: Callable[..., Path]) -> None:
    path = frame_list(fps=2, frames=[f"{i}.png" for i in range(6)])
    frames, fps = read_frames(path, sample_positions)
    assert fps == 2.0
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 0, 2, 4]
    assert [int(frame[0, 0, 0]) for frame in read_frames(path, live)[0]] == [0, 1, 3, 5]
    assert [int(frame[0, 0, 0]) for frame in read_frames(path)[0]] == [0, 1, 2, 3, 4, 5]


def test_only_the_wanted_pictures_of_a_list_are_opened(frame_list: Callable[..., Path]) -> None:
    path = frame_list(fps=1.0, frames=["0.png", "missing.png"])
    assert len(read_frames(path, lambda count, fps: [0])[0]) == 1
    with pytest.raises(BadInput, match=r"missing\.png"):
        read_frames(path, live)


@pytest.mark.parametrize(
    "data",
    [{}, {"fps": 2.0}, {"fps": "fast", "frames": ["0.png"]}, {"fps": 1, "frames": [1]}, {"fps": 1, "frames": []}],
)
def test_a_list_that_is_none_is_refused(data: dict[str, object], frame_list: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match=r"clip\.json"):
        read_frames(frame_list(**data))


@pytest.mark.parametrize("text", ["", "[1]", "{", "null", "\0"])
def test_a_list_that_is_not_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInput, match="Cannot read the list of frames"):
        read_frames(tmp_path / "a.json")


def test_the_frames_of_a_video_come_in_rgb(video: Path) -> None:
    frames, fps = read_frames(video, sample_positions)
    assert fps == pytest.approx(10.0)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    expected = [[position * 12, 0, 0] for position in (0, 0, 0, 10)]
    np.testing.assert_allclose([frame.mean(axis=(0, 1)) for frame in frames], expected, atol=4)
    part, _ = read_frames(video, partial(sample_positions, start_s=1.5))
    np.testing.assert_allclose([frame[..., 0].mean() for frame in part], [180] * 4, atol=4)
    assert len(read_frames(video)[0]) == 20


@pytest.mark.parametrize("promised", [0, -1, 5000])
def test_a_video_whose_header_lies_about_its_length_is_counted(
    promised: int, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    class Liar:
        def __init__(self, path: str) -> None:
            self._capture = capture(path)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._capture, name)

        def get(self, what: int) -> float:
            return promised if what == cv2.CAP_PROP_FRAME_COUNT else self._capture.get(what)

    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Liar)
    frames, _ = read_frames(video, live)
    np.testing.assert_allclose([frame[..., 0].mean() for frame in frames], [0, 72, 144, 228], atol=4)


@pytest.mark.parametrize("data", [b"", b"not a video" * 99])
def test_what_is_not_a_video_is_refused(data: bytes, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.mp4"):
        read_frames(tmp_path / "a.mp4", live)


def test_a_missing_clip_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.mp4", tmp_path / "missing.json"):
        with pytest.raises(BadInput, match="no such file"):
            read_frames(path)


def test_without_opencv_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(MissingPackage, match=r"\[video\]"):
        read_frames(tmp_path / "a.mp4")


def test_frames_of_a_variable_rate_are_chosen_by_the_time_at_which_they_are_shown() -> None:
    pytest.importorskip("cv2")
    clip = Path(__file__).parents[2] / "data" / "variable_frame_rate.mp4"  # ten still seconds, then a second of 25
    asked: list[float] = []

    def choose(count: int, fps: float) -> list[int]:
        asked.append(count / fps)
        return sample_positions(count, fps)

    frames, fps = read_frames(clip, choose)
    everything, _ = read_frames(clip)
    assert len(everything) == 44 and 3 < fps < 4
    assert asked[-1] == pytest.approx(11.3, abs=0.2)
    shown = [next(i for i, frame in enumerate(everything) if np.array_equal(frame, one)) for one in frames]
    assert shown[:10] == list(range(10))  # one a second; they were 0, 3, 6, 9 and eleven of the last second
    assert len(shown) <= 12


def test_a_picture_that_is_listed_often_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps({"fps": 1, "frames": ["a.png"] * 16}))
    monkeypatch.setattr(video_module, "MAX_CLIP_PIXELS", 40 * 30)
    frames, _ = read_frames(tmp_path / "a.json", sample_positions)
    assert len(frames) == 16 and len({id(frame) for frame in frames}) == 1


def test_frames_that_fill_the_memory_are_refused(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.json").write_text(json.dumps({"fps": 1, "frames": ["a.png", "b.png"]}))
    monkeypatch.setattr(video_module, "MAX_CLIP_PIXELS", 40 * 30 + 1)
    for clip in (tmp_path / "a.json", video):
        with pytest.raises(BadInput, match="take too much memory"):
            read_frames(clip, sample_positions)


def test_a_video_of_vast_frames_is_refused_before_one_is_decoded(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "MAX_RATIO", 0.5)
    with pytest.raises(BadInput, match="cannot be used") as raised:
        read_frames(video, sample_positions)
    assert "pixels" in raised.value.why


def test_a_frame_that_opencv_finds_and_that_holds_nothing_is_told(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    capture = cv2.VideoCapture

    class Empty:
        def __init__(self, path: str) -> None:
            self._capture = capture(path)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._capture, name)

        def retrieve(self) -> tuple[bool, Any]:
            return True, np.zeros((0, 0, 3), np.uint8)

    monkeypatch.setattr(cv2, "VideoCapture", Empty)
    with pytest.raises(BadInput, match="Cannot read the video"):
        read_frames(video)
