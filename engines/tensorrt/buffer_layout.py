"""Who may use the same memory, and where tensors lie in it: numbers alone, no device is needed.

A talk runs in two threads: one hears, sees, reads and writes, the other speaks. What one thread runs, it runs one after
the other, on one stream; so all components of a lane share one block for their activations, as large as the largest
needs of those that have run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vita_edge.engines.tensors import TensorSpec

__all__ = ["ALIGNMENT", "LANES", "Part", "cache_shape", "lane_of", "lay_out"]

LANES: Mapping[str, tuple[str, ...]] = {
    "mind": ("audio", "vision", "llm"),
    "mouth": ("speech_prefill", "speech_decoder", "codec"),
}
"""Stream → what runs on it."""

ALIGNMENT = 256
"""Bytes: what TensorRT wants of its activations, and what copies like."""


@dataclass(frozen=True)
class Part:
    """A tensor's place in a block."""

    offset: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: str


def lane_of(component: str) -> str:
    """The lane of a component; an unknown one (a second graph for prompts) runs where the language model does."""
    return next((lane for lane, members in LANES.items() if component in members), "mind")


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> tuple[dict[str, Part], int]:
    """Places of ``tensors`` (name, dtype, shape) in one block, and its bytes: one copy moves all of them."""
    parts: dict[str, Part] = {}
    at = 0
    for name, dtype, shape in tensors:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        parts[name] = Part(at, nbytes, shape, dtype)
        at += _aligned(max(nbytes, 1))
    return parts, at


def cache_shape(spec: TensorSpec, capacity_tokens: int) -> tuple[int, ...]:
    """Shape of a cache input with room for that many positions."""
    return tuple(axis if isinstance(axis, int) else capacity_tokens for axis in spec.axes)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
