"""Picture files are opened here, and nowhere else: only formats that are documented, and never more than memory holds.

Pillow knows 43 formats. Some call other programs (EPS), many are rarely used and have had holes (PSD); a file is what
its first bytes say, whatever it is called.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from vita_edge.engines.errors import BadInput

__all__ = ["FORMATS", "check_size", "decode_image", "read_image_bytes"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What docs/how-to/ask-from-the-command-line.md lists. A picture of several frames gives its first."""
MAX_PIXELS = 40_000_000
"""A larger picture is not decoded: one byte of a file may be a thousand pixels, and a pixel takes 12 bytes here."""
MAX_JPEG_PIXELS = 120_000_000
"""A larger JPEG is not decoded. Down to :data:`MAX_PIXELS` its decoder leaves out every second to eighth pixel."""
MAX_RATIO = 512
"""A picture longer than this many times its width is refused: resized, it would fill the memory."""
MAX_FILE_BYTES = 256 << 20


def read_image_bytes(path: Path) -> bytes:
    """The whole file at ``path``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than any picture.
    """
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"It has more than {MAX_FILE_BYTES >> 20} MiB")
    return content


def decode_image(content: bytes) -> Image.Image:
    """Decode a file, turned upright as its EXIF data says, in a mode of its own.

    Raises:
        BadInput: it is too large, or too long and narrow; found before a pixel is decoded.
        Exception: whatever Pillow's decoders stumble over.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata, and sizes that are looked at below
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        reducible = image.format in ("JPEG", "MPO") and not image.info.get("progressive")
        check_size(*image.size, max_pixels=MAX_JPEG_PIXELS if reducible else MAX_PIXELS)
        if image.width * image.height > MAX_PIXELS:
            scale = (MAX_PIXELS / (image.width * image.height)) ** 0.5
            image.draft(None, (int(image.width * scale / 2) + 1, int(image.height * scale / 2) + 1))
            check_size(*image.size)
        ImageOps.exif_transpose(image, in_place=True)
        return image


def check_size(width: int, height: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """
    Raises:
        BadInput: a picture of that many pixels takes too much memory.
    """
    size = f"It has {width} x {height} pixels"
    if width * height > max_pixels:
        why = f"{size}; up to {max_pixels // 1_000_000} million are decoded."
        raise BadInput("The picture is too large.", why=why, fix="Scale it down; a tile of it has 448 x 448.")
    short, long = sorted((width, height))
    if long > MAX_RATIO * short:
        why = f"{size}; one side may be {MAX_RATIO} times the other."
        raise BadInput("The picture is too long and narrow.", why=why, fix="Crop it, or cut it in several.")
