"""From pictures to what the vision tower is fed: square tiles, normalised.

Every resize is bicubic in two passes, sideways first, rounded to 8 bits in between: what Pillow 10.4 does, against
which parity is defined. Newer releases choose another order in some cases, which moves pixels by up to 20 levels, so
each pass is asked for on its own here; one pass is the same integer arithmetic in all of them (specification 6.3).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vita_edge.engines.bundle.facts import VisionFacts
from vita_edge.engines.errors import BadInput, Misuse

from .image_file import FORMATS, MAX_RATIO, check_size, decode_image, read_image_bytes
from .pixel_modes import as_rgb

__all__ = ["ImageSource", "VisionFrontEnd", "command_line_facts", "read_image"]

Pixels = NDArray[np.uint8]
ImageSource = str | Path | bytes | Image.Image | Pixels
"""A path, the bytes of an image file, a Pillow image, or uint8 [H, W, 3], [H, W, 4] or [H, W]."""

MAX_PADDED_SIDE = 16384
"""A picture with a longer side is not padded to a square."""


def command_line_facts(facts: VisionFacts) -> VisionFacts:
    """With the tile limits of the reference's command line, 1 to 12 and a thumbnail: specification 6.1."""
    return dataclasses.replace(facts, min_tiles=1, max_tiles=12, use_thumbnail=True)


def read_image(source: ImageSource) -> Pixels:
    """Read a picture of any size and mode as uint8 [H, W, 3] RGB, turned upright as its EXIF data says.

    Transparent pixels lie over white, of 16 bits the upper 8 are kept; 32 bits are read by their range.

    Raises:
        BadInput: there is no such file, it is in no format that is read here, it is damaged, too large, or too long and
            narrow.
    """
    name = f"The picture {source}" if isinstance(source, (str, Path)) else "The picture"
    if isinstance(source, np.ndarray) and (source.dtype != np.uint8 or source.ndim not in (2, 3) or not source.size):
        why = f"It is {source.dtype} {list(source.shape)}."
        raise BadInput(f"{name} has no usable form.", why=why, fix="Give uint8 [height, width, 3].")
    try:
        if isinstance(source, (str, Path)):
            source = read_image_bytes(Path(source))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{name} cannot be read.", why=f"{reason}.", fix="Check the path.") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata
            return np.asarray(as_rgb(_upright(source)))
    except BadInput as error:
        raise BadInput(error.what.replace("The picture", name, 1), why=error.why, fix=error.fix) from error
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        why = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its own words name a Python object
            why = "It is in no format that is read here."
        fix = f"Give a whole picture: {', '.join(FORMATS)}."
        raise BadInput(f"{name} cannot be decoded.", why=why, fix=fix) from error


class VisionFrontEnd:
    """The picture path of a model, specification 6.1 to 6.4. Pictures are uint8 [H, W, 3], of any size."""

    def __init__(self, facts: VisionFacts) -> None:
        self.facts = facts
        mean, std = np.array(facts.image_mean, np.float32), np.array(facts.image_std, np.float32)
        self._levels = ((np.arange(256) / 255).astype(np.float32)[:, None] - mean) / std
        """float32 [256, 3]: the 256 levels of a channel, normalised."""
        self._padding = tuple(int(255 * value) for value in facts.image_mean)

    def grid(self, width: int, height: int, *, max_tiles: int | None = None) -> tuple[int, int]:
        """Columns and rows of the grid whose shape is nearest to the picture's.

        Candidates are tried by growing area; of two equally near the larger one wins if the picture has more than half
        of its pixels (specification 6.1).

        Args:
            max_tiles: tiles at most, in place of the model's own limit; 1 stretches the picture to one tile.

        Raises:
            Misuse: ``max_tiles`` is less than 1.
        """
        maximum = self.facts.max_tiles if max_tiles is None else max_tiles
        if maximum < 1:
            raise Misuse(f"max_tiles is {maximum}.", why="A picture is at least one tile.", fix="Give 1 or more.")
        minimum = min(self.facts.min_tiles, maximum)
        candidates = [
            (area // rows, rows)
            for area in range(minimum, maximum + 1)
            for rows in range(1, area + 1)
            if area % rows == 0
        ]
        best, nearest = (1, 1), float("inf")
        for columns, rows in candidates:
            distance = abs(width / height - columns / rows)
            large = width * height > 0.5 * self.facts.tile_size**2 * columns * rows
            if distance < nearest or (distance == nearest and large):
                best, nearest = (columns, rows), distance
        return best

    def tiles(self, image: Pixels, *, max_tiles: int | None = None) -> Pixels:
        """Cut a picture into uint8 [tiles, S, S, 3], row by row, with the whole as a last tile if there are several.

        Raises:
            Misuse: ``max_tiles`` is less than 1.
        """
        size = self.facts.tile_size
        columns, rows = self.grid(image.shape[1], image.shape[0], max_tiles=max_tiles)
        whole = _resize(image, columns * size, rows * size)
        tiles = whole.reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
        if columns * rows > 1 and self.facts.use_thumbnail:
            tiles = np.concatenate([tiles, _resize(image, size, size)[None]])
        return np.ascontiguousarray(tiles)

    def frame_tiles(self, frames: Iterable[Pixels]) -> Pixels:
        """One tile for each frame of a video: uint8 [n, S, S, 3].

        The sides are cut off, or with ``facts.pad_frames`` the frame is padded to a square with the mean colour.

        Raises:
            BadInput: there is no frame, or one is too long and narrow.
        """
        return _stack(self._frame_tile(frame) for frame in frames)

    def stretched(self, frames: Iterable[Pixels]) -> Pixels:
        """One tile for each frame, stretched to the square as the live demo does: uint8 [n, S, S, 3].

        Raises:
            BadInput: there is no frame.
        """
        return _stack(_resize(frame, self.facts.tile_size, self.facts.tile_size) for frame in frames)

    def normalise(self, tiles: Pixels) -> NDArray[np.float32]:
        """uint8 [n, S, S, 3] to float32 [n, 3, S, S]: (level / 255 - mean) / std."""
        return np.stack([self._levels[:, channel][tiles[..., channel]] for channel in range(3)], axis=1)

    def _frame_tile(self, frame: Pixels) -> Pixels:
        height, width, _ = frame.shape
        short, long = sorted((height, width))
        if long > MAX_RATIO * short or (self.facts.pad_frames and long > MAX_PADDED_SIDE):
            why = f"It has {width} x {height} pixels; little more than a line would be left of it in a square."
            raise BadInput("The frame is too long and narrow.", why=why, fix="Crop it, or give it as a picture.")
        size = self.facts.tile_size
        if self.facts.pad_frames:
            square = np.full((long, long, 3), self._padding, np.uint8)
            top, left = (long - height) // 2, (long - width) // 2
            square[top : top + height, left : left + width] = frame
            return _resize(square, size, size)
        wide, high = size * width // short, size * height // short
        top, left = (high - size) // 2, (wide - size) // 2
        return _resize(frame, wide, high)[top : top + size, left : left + size]


def _resize(image: Pixels, width: int, height: int) -> Pixels:
    """Bicubic, sideways first; a pass that changes nothing is a copy."""
    sideways = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(sideways.resize((width, height), Image.Resampling.BICUBIC))


def _stack(tiles: Iterable[Pixels]) -> Pixels:
    listed = list(tiles)
    if not listed:
        raise BadInput("There are no frames.", why="The clip is empty.", fix="Give at least one.")
    return np.stack(listed)


def _upright(source: bytes | Image.Image | Pixels) -> Image.Image:
    if isinstance(source, bytes):
        return decode_image(source)
    image = Image.fromarray(source) if isinstance(source, np.ndarray) else source
    check_size(*image.size)
    return ImageOps.exif_transpose(image)
