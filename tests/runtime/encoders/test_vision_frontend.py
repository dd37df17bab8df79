"""From pictures to tiles."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vita_edge.engines.bundle.facts import VisionFacts
from vita_edge.engines.errors import BadInput, Misuse
from vita_edge.runtime.encoders.video import live_positions, read_frames, sample_positions
from vita_edge.runtime.encoders.vision_frontend import VisionFrontEnd, command_line_facts, read_image

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="no golden data here")
FACTS = VisionFacts(
    tile_size=112,
    tokens_per_tile=16,
    min_tiles=1,
    max_tiles=12,
    use_thumbnail=True,
    pad_frames=False,
    image_mean=(0.485, 0.456, 0.406),
    image_std=(0.229, 0.224, 0.225),
)


@pytest.fixture
def eyes() -> VisionFrontEnd:
    return VisionFrontEnd(FACTS)


def picture(width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bicubic(pixels: NDArray[np.uint8], size: int, axis: int) -> NDArray[np.uint8]:
    """One pass of specification 6.3, in integers."""
    n = pixels.shape[axis]
    if n == size:
        return pixels
    scale = n / size
    f = max(scale, 1)
    lines = np.moveaxis(pixels, axis, 0).astype(np.int64)
    result = []
    for i in range(size):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - 2 * f + 0.5), 0), min(int(centre + 2 * f + 0.5), n)
        x = np.abs((np.arange(first, last) - centre + 0.5) / f)
        near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
        weights = np.where(x < 1, near, np.where(x < 2, far, 0))
        weights = weights / weights.sum() * (1 << 22)
        weights = np.trunc(weights + np.copysign(0.5, weights)).astype(np.int64)
        result.append((np.tensordot(weights, lines[first:last], 1) + (1 << 21)) >> 22)
    return np.moveaxis(np.clip(np.stack(result), 0, 255).astype(np.uint8), 0, axis)


@needs_golden
@pytest.mark.parametrize("name", ["square", "wide", "tall", "odd"])
def test_the_golden_pictures_are_cut_bit_for_bit(name: str, eyes: VisionFrontEnd) -> None:
    image = read_image(GOLDEN / "tiny-a" / "data" / "inputs" / f"{name}.png")
    with np.load(GOLDEN / "tiny-a" / "data" / "vision.npz") as golden:
        assert eyes.grid(image.shape[1], image.shape[0]) == tuple(golden[f"{name}.grid"])
        tiles = eyes.tiles(image)
        np.testing.assert_array_equal(tiles, golden[f"{name}.tiles_u8"])
        pixels = eyes.normalise(tiles)
        assert (pixels.dtype, pixels.flags["C_CONTIGUOUS"]) == (np.float32, True)
        np.testing.assert_allclose(pixels, golden[f"{name}.pixels"], rtol=0, atol=1e-6)


@needs_golden
@pytest.mark.parametrize("pad", [False, True])
def test_the_golden_video_frames_are_cropped_or_padded(pad: bool) -> None:
    eyes = VisionFrontEnd(replace(FACTS, pad_frames=pad))
    frames, _ = read_frames(GOLDEN / "tiny-a" / "data" / "inputs" / "clip_2.json", sample_positions)
    with np.load(GOLDEN / "tiny-a" / "data" / "vision.npz") as golden:
        expected = golden["clip_pad.pixels" if pad else "clip_crop.pixels"]
    np.testing.assert_allclose(eyes.normalise(eyes.frame_tiles(frames)), expected, rtol=0, atol=1e-6)


@needs_golden
def test_the_golden_live_frames_are_stretched(eyes: VisionFrontEnd) -> None:
    path = GOLDEN / "tiny-a" / "data" / "inputs" / "clip_20.json"
    frames, _ = read_frames(path, lambda count, fps: live_positions(count))
    with np.load(GOLDEN / "tiny-a" / "data" / "vision.npz") as golden:
        pixels = eyes.normalise(eyes.stretched(frames))
        np.testing.assert_allclose(pixels, golden["live2.pixels"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(eyes.stretched(frames)[0], eyes.tiles(frames[0], max_tiles=1)[0])


@needs_golden
def test_the_golden_sizes_get_the_grids_of_the_reference() -> None:
    tiling = json.loads((GOLDEN / "common" / "common.json").read_text())["tiling"]
    eyes = VisionFrontEnd(replace(FACTS, tile_size=tiling["image_size"]))
    for case in tiling["cases"]:
        columns, rows = eyes.grid(case["width"], case["height"], max_tiles=case["max"])
        assert (columns, rows) == (case["cols"], case["rows"]), case
        assert columns * rows + (columns * rows > 1) == case["tiles"]


@pytest.mark.parametrize(
    ("width", "height", "grid"),
    [
        (112, 112, (1, 1)),
        (300, 300, (3, 3)),
        (150, 150, (1, 1)),
        (200, 200, (2, 2)),
        (448, 112, (4, 1)),
        (10000, 20, (12, 1)),
        (20, 10000, (1, 12)),
        (1, 1, (1, 1)),
    ],
)
def test_the_grid_has_the_shape_of_the_picture(
    width: int, height: int, grid: tuple[int, int], eyes: VisionFrontEnd
) -> None:
    assert eyes.grid(width, height) == grid
    assert eyes.grid(width, height, max_tiles=1) == (1, 1)
    image = picture(width, height)
    tiles = eyes.tiles(image)
    columns, rows = grid
    assert tiles.shape == (columns * rows + (columns * rows > 1), 112, 112, 3)
    whole = bicubic(bicubic(image, columns * 112, 1), rows * 112, 0)
    for i in range(columns * rows):
        row, column = divmod(i, columns)
        expected = whole[row * 112 : row * 112 + 112, column * 112 : column * 112 + 112]
        np.testing.assert_array_equal(tiles[i], expected)
    np.testing.assert_array_equal(tiles[-1], bicubic(bicubic(image, 112, 1), 112, 0))


def test_the_thumbnail_can_be_left_out() -> None:
    eyes = VisionFrontEnd(replace(FACTS, use_thumbnail=False))
    assert len(eyes.tiles(picture(200, 200))) == 4


def test_the_command_line_has_tile_limits_of_its_own() -> None:
    live = replace(FACTS, min_tiles=2, max_tiles=1, use_thumbnail=False)
    assert command_line_facts(live) == FACTS


def test_fewer_tiles_than_one_are_refused(eyes: VisionFrontEnd) -> None:
    with pytest.raises(Misuse, match="max_tiles"):
        eyes.grid(100, 100, max_tiles=0)


def test_the_centre_of_a_wide_frame_is_kept(eyes: VisionFrontEnd) -> None:
    frame = picture(301, 150)
    resized = bicubic(bicubic(frame, 224, 1), 112, 0)
    np.testing.assert_array_equal(eyes.frame_tiles([frame]), resized[None, :, 56:168])
    assert eyes.frame_tiles([picture(10000, 20), picture(20, 10000), picture(1, 1)]).shape == (3, 112, 112, 3)


def test_a_padded_frame_has_the_mean_colour_above_and_below() -> None:
    eyes = VisionFrontEnd(replace(FACTS, pad_frames=True))
    frame = picture(112, 51)
    [tile] = eyes.frame_tiles([frame])
    np.testing.assert_array_equal(tile[30:81], frame)
    assert set(map(tuple, np.concatenate([tile[:30], tile[81:]]).reshape(-1, 3).tolist())) == {(123, 116, 103)}


def test_frames_that_would_fill_the_memory_and_clips_without_any_are_refused(eyes: VisionFrontEnd) -> None:
    for frames in ([picture(600, 1)], []):
        with pytest.raises(BadInput):
            eyes.frame_tiles(frames)
    with pytest.raises(BadInput):
        VisionFrontEnd(replace(FACTS, pad_frames=True)).frame_tiles([picture(20000, 50)])


def test_levels_are_normalised_per_channel(eyes: VisionFrontEnd) -> None:
    tiles = np.zeros((1, 112, 112, 3), np.uint8)
    tiles[0, 5, 7] = (255, 128, 0)
    pixels = eyes.normalise(tiles)
    assert pixels.shape == (1, 3, 112, 112)
    expected = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(pixels[0, :, 5, 7], expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I", "F", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (5, 3))
    assert read_image(image).shape == (3, 5, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_every_usual_format_is_read(kind: str, tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (9, 6), (10, 200, 30)), kind)
    (tmp_path / "a").write_bytes(data)
    for source in (data, tmp_path / "a", str(tmp_path / "a")):
        image = read_image(source)
        assert (image.shape, image.dtype) == ((6, 9, 3), np.uint8)
        np.testing.assert_allclose(image, np.broadcast_to([10, 200, 30], image.shape), atol=5)


def test_of_sixteen_bits_the_upper_eight_are_kept() -> None:
    values = np.uint16([[0, 255, 256, 0x8040, 0xFFFF]])
    expected = np.uint8([[0, 0, 1, 128, 255]])
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(values)))[..., 1], expected)


def test_transparent_pixels_lie_over_white() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    np.testing.assert_array_equal(read_image(encoded(palette, transparency=bytes([0, 255])))[0, 0], [9, 8, 7])
    np.testing.assert_array_equal(read_image(encoded(palette, transparency=bytes([255, 0])))[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(read_image(np.full((2, 2, 4), (3, 2, 1, 255), np.uint8))[0, 0], [3, 2, 1])
    np.testing.assert_array_equal(read_image(np.full((2, 2, 4), (0, 0, 0, 0), np.uint8))[0, 0], [255, 255, 255])
    half = read_image(np.full((2, 2, 4), (0, 0, 0, 128), np.uint8))
    assert 120 < half[0, 0, 0] < 135


@pytest.mark.parametrize(
    ("values", "level"),
    [
        (np.full((4, 4), 0.5, np.float32), 128),
        (np.full((4, 4), 200.4, np.float32), 200),
        (np.full((4, 4), 200, np.int32), 200),
        (np.full((4, 4), 40_000, np.int32), 156),
    ],
)
def test_thirty_two_bits_are_read_by_their_range(values: np.ndarray[Any, Any], level: int) -> None:
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(values), "TIFF"))[0, 0], [level] * 3)


@pytest.mark.parametrize(
    "values",
    [
        np.full((4, 4), 2**31 - 1, np.int32),
        np.full((4, 4), -5, np.int32),
        np.full((4, 4), 1000.0, np.float32),
        np.full((4, 4), np.nan, np.float32),
        np.full((4, 4), -0.5, np.float32),
    ],
)
def test_thirty_two_bits_of_no_known_range_are_refused(values: np.ndarray[Any, Any]) -> None:
    with pytest.raises(BadInput, match="range"):
        read_image(encoded(Image.fromarray(values), "TIFF"))


def test_a_photo_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = read_image(encoded(Image.fromarray(picture(4, 2)), "PNG", exif=exif))
    np.testing.assert_array_equal(image, np.rot90(picture(4, 2), -1))


def test_arrays_and_pillow_images_are_taken_as_they_are() -> None:
    pixels = picture(7, 5)
    np.testing.assert_array_equal(read_image(pixels), pixels)
    np.testing.assert_array_equal(read_image(Image.fromarray(pixels)), pixels)
    np.testing.assert_array_equal(read_image(pixels[..., 0]), np.repeat(pixels[..., :1], 3, axis=2))
    for odd in (pixels / 255, pixels[:0], pixels[0, 0], np.stack([pixels] * 2)):
        with pytest.raises(BadInput):
            read_image(odd)  # type: ignore[arg-type]


def test_what_is_not_a_whole_picture_is_refused(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(picture(64, 64)))
    jpeg = encoded(Image.fromarray(picture(64, 64)), "JPEG")
    for data in (b"", b"not a picture" * 9, whole[:20], whole[:2000], jpeg[:1500], whole[:40] + b"\0" * 4000):
        (tmp_path / "a.png").write_bytes(data)
        for source in (data, tmp_path / "a.png"):
            with pytest.raises(BadInput) as error:
                read_image(source)
            assert error.value.why
            assert error.value.fix
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(BadInput, match=path.name):
            read_image(path)


def test_a_single_pixel_fills_its_tile(eyes: VisionFrontEnd) -> None:
    tiles = eyes.tiles(np.full((1, 1, 3), 77, np.uint8))
    assert tiles.shape == (1, 112, 112, 3)
    assert (tiles == 77).all()
    assert math.isclose(float(eyes.normalise(tiles)[0, 0, 0, 0]), (77 / 255 - 0.485) / 0.229, rel_tol=1e-6)
