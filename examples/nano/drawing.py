"""Pictures of scenes: filled shapes on a plain, slightly dirty ground, drawn by Pillow."""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from world import PLACES, Scene

__all__ = ["HEIGHT", "WIDTH", "draw"]

WIDTH, HEIGHT = 320, 240
SHADES = {
    "red": (215, 35, 35),
    "green": (35, 155, 60),
    "blue": (40, 75, 215),
    "yellow": (245, 220, 40),
    "orange": (250, 135, 20),
    "purple": (140, 45, 165),
    "black": (22, 22, 24),
    "white": (250, 250, 250),
}
SUPERSAMPLING = 2


def draw(scene: Scene, rng: random.Random) -> NDArray[np.uint8]:
    """uint8 [240, 320, 3]; colour, size, place, turn, ground and noise vary with ``rng``."""
    noise = np.random.default_rng(rng.getrandbits(63))
    ground = _ground(rng)
    picture = Image.new("RGB", (WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING), ground)
    pencil = ImageDraw.Draw(picture)
    if rng.random() < 0.3:  # a table's edge
        y = rng.randint(140, 220) * SUPERSAMPLING
        shade = tuple(max(0, c - rng.randint(8, 25)) for c in ground)
        pencil.rectangle((0, y, WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING), fill=shade)
    for thing in scene:
        x = WIDTH * (2 * PLACES.index(thing.place) + 1) / 6 + rng.uniform(-9, 9)
        y = HEIGHT / 2 + rng.uniform(-45, 45)
        radius = rng.uniform(34, 48)
        turn = math.radians(rng.uniform(-10, 10))
        outline = _outline(thing.shape)
        points = [
            (
                (x + radius * (a * math.cos(turn) - b * math.sin(turn))) * SUPERSAMPLING,
                (y + radius * (a * math.sin(turn) + b * math.cos(turn))) * SUPERSAMPLING,
            )
            for a, b in outline
        ]
        colour = tuple(min(255, max(0, c + rng.randint(-14, 14))) for c in SHADES[thing.colour])
        pencil.polygon(points, fill=colour)
    picture = picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.2)))
    pixels = np.asarray(picture, np.float32) * rng.uniform(0.88, 1.06)
    pixels += noise.normal(0, rng.uniform(0, 7), pixels.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _ground(rng: random.Random) -> tuple[int, int, int]:
    level = rng.randint(120, 205)
    return (level + rng.randint(-8, 14), level + rng.randint(-6, 6), level + rng.randint(-14, 8))


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners within a circle of radius about 1; y grows downwards."""
    if shape == "circle":
        return _arc(0, 0, 0.95, 0, 360)
    if shape == "square":
        return [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]
    if shape == "triangle":
        return [(0, -1), (0.95, 0.75), (-0.95, 0.75)]
    if shape == "diamond":
        return [(0, -1.05), (0.7, 0), (0, 1.05), (-0.7, 0)]
    if shape == "cross":
        a, b = 0.3, 0.95
        return [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    if shape == "star":
        corners = []
        for i in range(10):
            radius, angle = (1.08, 0.43)[i % 2], math.radians(36 * i - 90)
            corners.append((radius * math.cos(angle), radius * math.sin(angle)))
        return corners
    if shape == "moon":
        return _arc(0, 0, 1, 60, 300) + _arc(0.42, 0, 0.87, 275, 85)
    if shape == "heart":
        steps = [math.radians(t) for t in range(0, 360, 10)]
        return [
            (
                math.sin(t) ** 3 * 0.98,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16.5,
            )
            for t in steps
        ]
    raise ValueError(shape)


def _arc(x: float, y: float, radius: float, first: float, last: float) -> list[tuple[float, float]]:
    """Points from angle ``first`` to ``last`` in degrees, clockwise on the screen; back if ``last`` is less."""
    n = max(int(abs(last - first) / 10), 2)
    angles = [math.radians(first + (last - first) * i / n) for i in range(n + 1)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
