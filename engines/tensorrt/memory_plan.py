"""Who may use the same memory: a plan in numbers, made before any memory is taken. Needs no device.

A talk runs in two threads: one hears, sees, reads and writes, the other speaks. What one thread runs, it runs one after
the other, on one stream; so all components of a lane share one block for their activations, as large as the largest
needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vita_edge.engines.tensors import TensorSpec

__all__ = ["ALIGNMENT", "LANES", "MemoryPlan", "Part", "lane_of", "lay_out", "plan_memory"]

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


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of activations for each lane, and what they would be if nobody shared."""

    lanes: Mapping[str, int]
    unshared: int

    @property
    def total(self) -> int:
        return sum(self.lanes.values())

    @property
    def saved(self) -> int:
        return self.unshared - self.total


def lane_of(component: str) -> str:
    """The lane of a component; an unknown one (a second graph for prompts) runs where the language model does."""
    return next((lane for lane, members in LANES.items() if component in members), "mind")


def plan_memory(activations: Mapping[str, Sequence[int]]) -> MemoryPlan:
    """Memory for the activations of every component.

    Args:
        activations: component → bytes that each of its profiles needs.
    """
    lanes = dict.fromkeys(LANES, 0)
    for component, needs in activations.items():
        lane = lane_of(component)
        lanes[lane] = max(lanes[lane], *(aligned(need) for need in needs), 0)
    return MemoryPlan(lanes, sum(aligned(need) for needs in activations.values() for need in needs))


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> tuple[dict[str, Part], int]:
    """Places of ``tensors`` (name, dtype, shape) in one block, and its bytes: one copy moves all of them."""
    parts: dict[str, Part] = {}
    at = 0
    for name, dtype, shape in tensors:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        parts[name] = Part(at, nbytes, shape, dtype)
        at += aligned(max(nbytes, 1))
    return parts, at


def cache_shape(spec: TensorSpec, capacity_tokens: int) -> tuple[int, ...]:
    """Shape of a cache input with room for that many positions."""
    return tuple(axis if isinstance(axis, int) else capacity_tokens for axis in spec.axes)


def aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
