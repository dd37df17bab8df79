"""From a clip to frames: which ones the model is shown, and decoding just those."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput, MissingPackage
from vita_edge.engines.install import install_fix
from vita_edge.engines.reading.file_kind import FileKind, beside, is_file
from vita_edge.engines.reading.json_file import read_json
from vita_edge.engines.reading.table import as_table

from .image_file import check_size
from .vision_frontend import read_image

__all__ = ["Choice", "live_positions", "read_frames", "sample_positions"]

Choice = Callable[[int, float], Sequence[int]]
"""From the number of frames and the frames a second to the positions that are wanted."""

FRAMES = FileKind(BadInput, "the list of frames", fix='Write {"fps": 2.0, "frames": ["a.png", ...]}.')
EVEN_FPS = 30.0
"""Of the even clip that stands for one of a variable rate."""
MAX_CLIP_PIXELS = 200_000_000
"""Of all different frames that are read of a clip: sixteen of 4K are two thirds of it. A pixel takes three bytes."""
MIN_FRAMES, MAX_FRAMES, LIVE_FRAMES = 4, 16, 4


def sample_positions(
    frame_count: int, fps: float, start_s: float | None = None, end_s: float | None = None
) -> list[int]:
    """One frame a second between two times, at least 4 (with repeats) and at most 16: specification 6.5.

    Raises:
        BadInput: there is no frame in that range, or no usable frame rate.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise BadInput(f"The clip has {fps} frames a second.", why="Times cannot be found in it.", fix="Convert it.")
    first = int((start_s or 0) * fps)
    last = int(min(math.inf if end_s is None else end_s * fps, frame_count - 1))
    if first < 0 or last < first:
        why = f"It has {frame_count} frames at {fps:g} a second: {frame_count / fps:.2f} s."
        raise BadInput("There are no frames in the chosen part of the video.", why=why, fix="Choose another part.")
    positions = range(first, last + 1, max(round(fps), 1))
    requested = min(max(len(positions), MIN_FRAMES), MAX_FRAMES)
    return [positions[i] for i in _spread(len(positions), requested)]


def live_positions(frame_count: int) -> list[int]:
    """Four positions spread over all frames of what the camera saw, with repeats: specification 6.5.

    Raises:
        BadInput: there are no frames.
    """
    if frame_count < 1:
        raise BadInput("There are no frames.", why="The camera has not delivered any.", fix="Wait for the camera.")
    return _spread(frame_count, LIVE_FRAMES)


def read_frames(path: str | Path, choose: Choice | None = None) -> tuple[list[NDArray[np.uint8]], float]:
    """Read frames of a video file, or of a list of pictures.

    A list is a JSON file ``{"fps": 2.0, "frames": ["a.png", ...]}`` with paths relative to it. A video is decoded from
    its start to the last frame that is wanted; where its header promises more frames than there are, they are counted
    and ``choose`` is asked again. Where the frames of a video are not evenly spaced, those are read that are
    shown at the times that ``choose`` means.

    Args:
        path: the file.
        choose: picks the positions to read, for example :func:`sample_positions`; all frames without it.

    Returns:
        the frames, uint8 [H, W, 3] RGB each, one for each position (a repeated position gives the same array), and the
        frames a second of the clip.

    Raises:
        BadInput: there is no such file, or it cannot be read, or ``choose`` found no frames.
        MissingPackage: the file is a video and OpenCV is not installed.
    """
    path = Path(path)
    if not is_file(path):
        raise BadInput(f"Cannot read the clip {path}.", why="There is no such file.", fix="Check the path.")
    return _read_list(path, choose) if path.suffix.lower() == ".json" else _read_video(path, choose)


def _spread(count: int, requested: int) -> list[int]:
    """``wanted`` indices evenly over ``count``, fractions cut off."""
    return [int(i) for i in np.linspace(0, count - 1, requested)]


def _read_list(path: Path, choose: Choice | None) -> tuple[list[NDArray[np.uint8]], float]:
    data = as_table(path, read_json(path, FRAMES), FRAMES)
    fps, names = data.number("fps"), data.texts("frames")
    if not names:
        raise BadInput(f"{path} lists no frames.", why="The list is empty.", fix="List at least one picture.")
    positions = choose(len(names), fps) if choose else range(len(names))
    files = {position: beside(path, names[position], FRAMES) for position in sorted(set(positions))}
    room = _Room(path)
    pictures = {file: room.take(read_image(file)) for file in dict.fromkeys(files.values())}
    return [pictures[files[position]] for position in positions], fps


class _Room:
    """The memory that the frames of one clip may take."""

    def __init__(self, path: Path) -> None:
        self._path, self._pixels = path, 0

    def take(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """
        Raises:
            BadInput: with this frame there are too many pixels.
        """
        self._pixels += frame.shape[0] * frame.shape[1]
        if self._pixels > MAX_CLIP_PIXELS:
            raise BadInput(
                f"The frames of {self._path} take too much memory.",
                why=f"They have more than {MAX_CLIP_PIXELS // 1_000_000} million pixels in all.",
                fix="Scale the clip down, or choose fewer frames; a tile of it has 448 x 448.",
            )
        return frame


def _read_video(path: Path, choose: Choice | None) -> tuple[list[NDArray[np.uint8]], float]:
    try:
        import cv2
    except ImportError as error:
        why, fix = "OpenCV decodes videos, and is not installed.", install_fix("video")
        raise MissingPackage(f"Cannot read the video {path}.", why=why, fix=fix) from error
    capture = cv2.VideoCapture(str(path.resolve()))
    fps, promised = float(capture.get(cv2.CAP_PROP_FPS)), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()

    positions = choose(promised, fps) if choose and promised > 0 else ()
    frames, times_s = _decode(cv2, path, positions)
    count = len(times_s)
    if not count:
        fix = "Convert it, for example to MP4 with H.264."
        raise BadInput(f"Cannot read the video {path}.", why="OpenCV finds no frames in it.", fix=fix)
    if choose and not _is_steady(times_s, fps):
        times_s = times_s if not positions else _decode(cv2, path, ())[1]
        positions, fps = _by_time(choose, times_s)
        frames, _ = _decode(cv2, path, positions)
    elif not positions or not frames.keys() >= set(positions):
        # all are wanted, or the header lied; only now the number of frames is known
        positions = choose(count, fps) if choose else range(count)
        frames, _ = _decode(cv2, path, positions)
    if not frames.keys() >= set(positions):
        raise BadInput(
            f"Cannot read the video {path}.",
            why="Some of its frames cannot be decoded.",
            fix="Convert it, for example to MP4 with H.264.",
        )
    return [frames[position] for position in positions], fps


def _is_steady(times_s: Sequence[float], fps: float) -> bool:
    """Whether frame i is shown at i / fps, within a frame; also where nothing is known of it."""
    if not (math.isfinite(fps) and fps > 0) or len(times_s) < 2 or not times_s[-1] > times_s[0]:
        return True
    return max(abs(time_s - times_s[0] - i / fps) for i, time_s in enumerate(times_s)) <= max(1 / fps, 0.05)


def _by_time(choose: Choice, times_s: Sequence[float]) -> tuple[list[int], float]:
    """What ``choose`` picks of an evenly spaced clip of the same length, as the frames that are shown then.

    Returns:
        positions, and the mean frames a second.
    """
    shown = np.maximum.accumulate(np.asarray(times_s)) - times_s[0]
    requested_s = np.asarray(choose(int(shown[-1] * EVEN_FPS) + 1, EVEN_FPS)) / EVEN_FPS
    positions = np.searchsorted(shown, requested_s + 1e-3, side="right") - 1
    return [int(position) for position in positions], (len(times_s) - 1) / float(shown[-1])


def _decode(cv2: Any, path: Path, positions: Sequence[int]) -> tuple[dict[int, NDArray[np.uint8]], list[float]]:
    """The frames at ``positions``, and when each was shown up to the last of them (of all, if none is wanted)."""
    requested, last = set(positions), max(positions, default=math.inf)
    frames: dict[int, NDArray[np.uint8]] = {}
    times_s: list[float] = []
    room = _Room(path)
    capture = cv2.VideoCapture(str(path.resolve()))
    try:
        _check_frame_size(cv2, capture, path)
        while len(times_s) <= last and capture.grab():
            if len(times_s) in requested:
                found, frame = capture.retrieve()
                if not found or frame is None or not frame.size:  # OpenCV finds frames in damaged files that are none
                    break
                frames[len(times_s)] = room.take(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            times_s.append(float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000)
    except cv2.error as error:  # of its own assertions
        raise BadInput(
            f"Cannot read the video {path}.",
            why=f"OpenCV: {str(error).strip().splitlines()[0]}",
            fix="Convert it, for example to MP4 with H.264.",
        ) from error
    finally:
        capture.release()
    return frames, times_s


def _check_frame_size(cv2: Any, capture: Any, path: Path) -> None:
    """Look at what the header says before a frame is decoded."""
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width <= 0 or height <= 0:  # not said: the frames are looked at as they come
        return
    try:
        check_size(width, height)
    except BadInput as error:
        raise BadInput(f"The frames of {path} cannot be used.", why=error.why, fix=error.fix) from error
