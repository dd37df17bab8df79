"""Pictures and frames as the model sees them: tiles of one size, resized bit for bit as Pillow 10.4 does it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vita_edge.export.checkpoint.config import VisionConfig

__all__ = ["Clip", "Pixels", "frame_tile", "live_positions", "normalised", "picture_tiles", "read_clip", "read_picture"]
__all__ += ["sampled_positions", "tile_grid"]

Pixels = NDArray[np.uint8]
"""RGB, [rows, columns, 3]"""

MIN_FRAMES, MAX_FRAMES = 4, 16
FRACTION_BITS = 22
"""Of the weights of the resize."""


def read_picture(path: Path) -> Pixels:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@dataclass(frozen=True)
class Clip:
    """Frames of a video."""

    fps: float
    frames: list[Pixels]


def read_clip(path: Path) -> Clip:
    """A list of frames: ``{"fps": 2, "frames": ["frames/000.png", …]}``."""
    clip = json.loads(path.read_text("utf-8"))
    return Clip(float(clip["fps"]), [read_picture(path.parent / name) for name in clip["frames"]])


def sampled_positions(frames: int, fps: float) -> list[int]:
    """One frame a second, 4 to 16 of them."""
    positions = list(range(0, frames, max(round(fps), 1)))
    if MIN_FRAMES <= len(positions) <= MAX_FRAMES:
        return positions
    return [positions[i] for i in _spread(len(positions), MAX_FRAMES if len(positions) > MAX_FRAMES else MIN_FRAMES)]


def live_positions(frames: int) -> list[int]:
    """The four frames of a live talk."""
    return _spread(frames, MIN_FRAMES)


def tile_grid(width: int, height: int, size: int, min_tiles: int, max_tiles: int) -> tuple[int, int]:
    """Columns and rows: the grid whose ratio is nearest; among equals, the larger one for a large picture."""
    counts = range(1, max_tiles + 1)
    grids = [(c, r) for c in counts for r in counts if min_tiles <= c * r <= max_tiles]
    best, found = math.inf, (1, 1)
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        off = abs(width / height - columns / rows)
        if off < best or (off == best and width * height > 0.5 * size * size * columns * rows):
            best, found = off, (columns, rows)
    return found


def picture_tiles(picture: Pixels, size: int, min_tiles: int, max_tiles: int) -> NDArray[np.uint8]:
    """[tiles, S, S, 3], row by row; the whole picture comes last when there are several tiles."""
    columns, rows = tile_grid(picture.shape[1], picture.shape[0], size, min_tiles, max_tiles)
    whole = _resized(picture, columns * size, rows * size)
    tiles = list(whole.reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3))
    if len(tiles) > 1:
        tiles.append(_resized(picture, size, size))
    return np.stack(tiles)


def frame_tile(frame: Pixels, c: VisionConfig, *, pad: bool) -> Pixels:
    """A frame that is not tiled, [S, S, 3]: short side to S, centre cut out; padded to a square before with ``pad``."""
    if pad:
        frame = _padded(frame, [int(255 * mean) for mean in c.image_mean])
    size, (height, width) = c.image_size, frame.shape[:2]
    long = int(size * max(height, width) / min(height, width))
    height, width = (size, long) if height <= width else (long, size)
    frame = _resized(frame, width, height)
    top, left = (height - size) // 2, (width - size) // 2
    return frame[top : top + size, left : left + size]


def normalised(tiles: NDArray[np.uint8], c: VisionConfig) -> Tensor:
    """[n, S, S, 3] → float32 [n, 3, S, S]"""
    values = (tiles / 255 - np.array(c.image_mean)) / np.array(c.image_std)
    return torch.from_numpy(values.astype(np.float32).transpose(0, 3, 1, 2).copy())


def _spread(count: int, chosen: int) -> list[int]:
    return [int(place) for place in np.linspace(0, count - 1, chosen)]


def _padded(frame: Pixels, colour: list[int]) -> Pixels:
    height, width = frame.shape[:2]
    side = max(height, width)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = colour
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = frame
    return square


def _resized(picture: Pixels, width: int, height: int) -> Pixels:
    """The horizontal pass, rounded to 8 bits, then the vertical one."""
    return _resized_rows(_resized_rows(picture.swapaxes(0, 1), width).swapaxes(0, 1), height)


def _resized_rows(x: NDArray[Any], count: int) -> NDArray[Any]:
    """Bicubic with antialiasing along the first axis; weights in fixed point."""
    if len(x) == count:
        return x
    scale = len(x) / count
    support = max(scale, 1.0)
    out = np.empty((count, *x.shape[1:]), np.uint8)
    for i in range(count):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - 2 * support + 0.5), 0), min(int(centre + 2 * support + 0.5), len(x))
        weights = _bicubic((np.arange(first, last) - centre + 0.5) / support)
        scaled = weights / weights.sum() * 2**FRACTION_BITS
        whole = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int64)
        total = np.tensordot(whole, x[first:last].astype(np.int64), 1)
        out[i] = np.clip((total + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS, 0, 255)
    return out


def _bicubic(x: NDArray[Any]) -> NDArray[Any]:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
