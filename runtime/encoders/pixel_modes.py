"""Pictures of every mode as RGB of 8 bits: what a viewer shows, or a refusal; never all black by accident."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vita_edge.engines.errors import BadInput

__all__ = ["as_rgb"]

PAPER = (255, 255, 255, 255)
"""Behind transparent pixels: logos and diagrams are drawn for a white page."""
_FIX = "Convert it to 8 bits a channel, for example as PNG."


def as_rgb(image: Image.Image) -> Image.Image:
    """``image`` in mode RGB: transparency over white, of 16 bits the upper 8, other numbers by their range.

    Raises:
        BadInput: its numbers are in no range that pictures have.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format != "TIFF"):  # PNG of 16 bits
        return _gray(np.asarray(image).astype(np.int64) >> 8)
    if image.mode == "I":
        return _gray(_whole_numbers(np.asarray(image).astype(np.int64)))
    if image.mode == "F":
        return _gray(_floats(np.asarray(image)))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, PAPER)
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _whole_numbers(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """32 bits a pixel: of 8 or 16 bits in truth."""
    minimum, largest = int(values.min()), int(values.max())
    if minimum < 0 or largest > 65535:
        raise _no_range("whole numbers", minimum, largest)
    return values if largest <= 255 else values >> 8


def _floats(values: NDArray[np.float32]) -> NDArray[Any]:
    """Of 0 to 1, or of 0 to 255."""
    minimum, largest = float(values.min()), float(values.max())
    if not (minimum >= 0 and largest <= 255):  # NaN too
        raise _no_range("numbers with fractions", minimum, largest)
    return np.rint(values * 255 if largest <= 1 else values)


def _gray(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def _no_range(kind: str, minimum: float, largest: float) -> BadInput:
    return BadInput(
        "The picture has a range that cannot be shown.",
        why=f"It holds {kind} of 32 bits from {minimum:g} to {largest:g}; pictures go to 1, 255 or 65535.",
        fix=_FIX,
    )
