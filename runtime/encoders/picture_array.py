"""Arrays as cameras and libraries give them, as uint8 [H, W, 3]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput

__all__ = ["as_picture"]

CHANNELS = (1, 3, 4)
FIX = "Give uint8 [height, width, 3], RGB."


def as_picture(pixels: Any, name: str = "The picture") -> NDArray[np.uint8]:
    """``pixels`` as uint8 [H, W, 3]; the same array where it is that already.

    Gray, RGBA, channels first and an axis for a batch of one are converted; floats from 0 to 1, or from 0 to 255, and
    16-bit levels too. Everything else is refused.

    Args:
        name: how errors call it.

    Raises:
        BadInput: it holds no pixels, is no picture by its shape, or its levels are none.
    """
    array = np.asarray(pixels)
    right = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0
    return array if right else _with_three_channels(_levels(_channels_last(array, name), name))


def _channels_last(array: NDArray[Any], name: str) -> NDArray[Any]:
    """[H, W, channels]."""
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array, shape = array[0], shape[1:]
    if array.size == 0:
        raise BadInput(f"{name} holds no pixels.", why=f"Its shape is {list(shape)}.", fix=FIX)
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3 and shape[2] in CHANNELS:
        return array
    if array.ndim == 3 and shape[0] in CHANNELS:
        return array.transpose(1, 2, 0)
    raise BadInput(f"{name} has no usable form.", why=f"It is {array.dtype} {list(array.shape)}.", fix=FIX)


def _levels(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Levels from 0 to 255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if array.dtype.kind not in "fiu":
        raise BadInput(f"{name} has no usable form.", why=f"Its levels are {array.dtype}.", fix=FIX)
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 255:  # NaN fails too
        why = f"Its levels are {array.dtype} from {low:g} to {high:g}."
        raise BadInput(
            f"{name} has no usable levels.", why=why, fix="Give levels from 0 to 255, or floats from 0 to 1."
        )
    unit = array.dtype.kind == "f" and high <= 1
    return np.rint(array * 255 if unit else array).astype(np.uint8)


def _with_three_channels(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    array = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    return np.ascontiguousarray(array)
