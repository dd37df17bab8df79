"""Arrays as cameras and libraries give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vita_edge.engines.errors import BadInput
from vita_edge.runtime.encoders.picture_array import as_picture

RGB = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3) * 8
ALPHA = np.full((2, 5, 1), 7, np.uint8)


def test_a_picture_is_taken_as_it_is() -> None:
    assert as_picture(RGB) is RGB


@pytest.mark.parametrize(
    "array",
    [
        RGB[None],
        np.concatenate([RGB, ALPHA], 2),
        RGB.transpose(2, 0, 1),
        np.concatenate([RGB, ALPHA], 2).transpose(2, 0, 1),
        RGB / 255,
        (RGB / 255).astype(np.float32).transpose(2, 0, 1)[None],
        RGB.astype(np.float64),
        RGB.astype(np.int64),
        RGB.astype(np.uint16) << 8,
        RGB.tolist(),
    ],
    ids=lambda array: f"{getattr(array, 'dtype', 'list')} {np.shape(array)}",
)
def test_what_is_plainly_the_same_picture_is_converted(array: Any) -> None:
    converted = as_picture(array)
    assert converted.dtype == np.uint8 and converted.flags.c_contiguous
    np.testing.assert_array_equal(converted, RGB)


def test_gray_becomes_three_equal_channels() -> None:
    gray = RGB[..., 0]
    for array in (gray, gray[..., None], gray[None]):
        np.testing.assert_array_equal(as_picture(array), np.stack([gray] * 3, 2))
    assert as_picture(gray > 50).max() == 255


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((0, 0, 3), np.uint8), "no pixels"),
        (np.zeros(0), "no pixels"),
        (None, "no usable form"),
        ("a.png", "no usable form"),
        (np.zeros((5, 6, 7), np.uint8), "no usable form"),
        (np.zeros((2, 5, 6, 3), np.uint8), "no usable form"),
        (np.zeros(9, np.uint8), "no usable form"),
        (RGB * 1j, "no usable form"),
        (RGB / 255 - 0.1, "no usable levels"),
        (np.full((4, 4, 3), np.nan), "no usable levels"),
        (np.full((4, 4, 3), 300), "no usable levels"),
    ],
)
def test_everything_else_is_refused_in_words(array: Any, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        as_picture(array, "The frame")
