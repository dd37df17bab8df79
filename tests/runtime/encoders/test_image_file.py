"""A small file never takes gigabytes, and a picture never runs another program."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vita_edge.engines.errors import BadInput
from vita_edge.runtime import read_image
from vita_edge.runtime.encoders import image_file
from vita_edge.runtime.encoders.image_file import FORMATS

ROOT = Path(__file__).resolve().parents[3]
HOW_TO = ROOT / "docs" / "how-to" / "ask-from-the-command-line.md"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "size"),
    [("L", (60, 1_000_000)), ("1", (13_300, 13_300)), ("L", (1, 513)), ("L", (513, 1)), ("1", (60, 2_900_000))],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(
    mode: str, size: tuple[int, int], kind: str
) -> None:
    content = encoded(Image.new(mode, size), kind)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=r"The picture is too (large|long and narrow)") as raised:
            read_image(content)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    assert f"{size[0]} x {size[1]} pixels" in raised.value.why


def test_arrays_and_pillow_images_have_the_same_limits() -> None:
    for source in (Image.new("L", (1, 5000)), np.zeros((1, 5000, 3), np.uint8)):
        with pytest.raises(BadInput, match="too long and narrow"):
            read_image(source)


def test_a_large_photograph_is_reduced_while_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "MAX_PIXELS", 100 * 100)
    monkeypatch.setattr(image_file, "MAX_JPEG_PIXELS", 100 * 100 * 9)
    rising = Image.fromarray(np.tile(np.linspace(0, 255, 200).astype(np.uint8), (200, 1)))
    image = read_image(encoded(rising, "JPEG"))
    assert image.shape == (100, 100, 3)
    np.testing.assert_allclose(image[50, :, 0], np.linspace(0, 255, 100), atol=6)
    for refused in (
        encoded(rising, "JPEG", progressive=True),
        encoded(rising),
        encoded(rising.resize((301, 301)), "JPEG"),
    ):
        with pytest.raises(BadInput, match="too large"):
            read_image(refused)


def test_below_the_limit_every_pixel_is_decoded() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_documented_format_is_read(kind: str) -> None:
    image = read_image(encoded(Image.new("RGB", (20, 10), (200, 100, 50)), kind))
    np.testing.assert_allclose(image, np.broadcast_to([200, 100, 50], (10, 20, 3)), atol=12)
    assert kind.capitalize() in HOW_TO.read_text("utf-8") or kind in HOW_TO.read_text("utf-8")


def test_postscript_in_a_picture_calls_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\necho called >> {tmp_path / 'called'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(BadInput, match=r"photo\.png cannot be decoded") as raised:
        read_image(photo)
    assert "in no format that is read here" in raised.value.why
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("kind", ["EPS", "TGA", "PCX", "ICO", "SGI", "JPEG2000"])
def test_formats_that_are_not_documented_are_refused(kind: str) -> None:
    with pytest.raises(BadInput, match="cannot be decoded"):
        read_image(encoded(Image.new("RGB", (16, 16)), kind))


def test_a_device_in_place_of_a_picture_is_not_read_for_ever() -> None:
    with pytest.raises(BadInput, match="cannot be read") as raised:
        read_image("/dev/zero")
    assert "256 MiB" in raised.value.why
