"""How a decoder graph is told which positions of its KV cache are valid, and where it writes new ones.

Every target of a bundle has a dialect of its own, and a graph shows by its inputs which one it speaks:

============  =======================================  =====================================================
dialect       inputs beside the cache                  present
============  =======================================  =====================================================
GROUP_QUERY   ``seqlens_k``, ``total_sequence_length``  written into the memory of the past
SCATTER       ``past_length``, ``seen``                written into the memory of the past
CONCAT        none: the length of the past says it     past and new positions, in memory of its own
============  =======================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .tensors import Array

__all__ = ["CONCAT", "GROUP_QUERY", "SCATTER", "SEEN_STEP", "CacheLayout", "cache_layout_of"]

SEEN_STEP = 256
"""Positions."""


@dataclass(frozen=True)
class CacheLayout:
    """One way to run a graph over a cache."""

    name: str
    in_place: bool
    """Past and present are one tensor of the full capacity; else the present is a longer tensor than the past."""
    lengths: Mapping[str, tuple[str, Callable[[int, int], int]]]
    """Input → its dtype, and what it is fed for (positions before the call, new positions)."""
    seen: str = ""
    """Input, bool [n], of which nothing but the length is read: attention goes over the first n positions of the
    cache."""

    @property
    def inputs(self) -> set[str]:
        """All that is told, beside the cache."""
        return {*self.lengths, self.seen} - {""}

    def length_arrays(self) -> dict[str, Array]:
        """An array [1] for each length, at an address that stays; see :meth:`tell`."""
        return {name: np.zeros(1, dtype) for name, (dtype, _) in self.lengths.items()}

    def report(self, arrays: Mapping[str, Array], past: int, tokens: int) -> None:
        """Write into ``arrays`` what a call is fed that appends ``tokens`` positions to ``past``."""
        for name, array in arrays.items():
            array[0] = self.lengths[name][1](past, tokens)

    def sees(self, tokens: int, capacity_tokens: int) -> int:
        """How long ``seen`` is made for a cache that holds ``tokens``: in steps, since shapes that come again are
        quicker."""
        return min(-(-tokens // SEEN_STEP) * SEEN_STEP, capacity_tokens)


GROUP_QUERY = CacheLayout(
    "GroupQueryAttention",
    in_place=True,
    lengths={
        "seqlens_k": ("int32", lambda past, tokens: past + tokens - 1),  # the last valid position
        "total_sequence_length": ("int32", lambda past, tokens: past + tokens),
    },
)
SCATTER = CacheLayout(
    "TensorScatter", in_place=True, lengths={"past_length": ("int64", lambda past, tokens: past)}, seen="seen"
)
CONCAT = CacheLayout("Concat", in_place=False, lengths={})


def cache_layout_of(inputs: Iterable[str]) -> CacheLayout:
    """The dialect of a graph with the inputs of these names."""
    names = set(inputs)
    found = next(
        (cache_layout for cache_layout in (GROUP_QUERY, SCATTER) if names >= set(cache_layout.lengths)), CONCAT
    )
    return found if not found.seen or found.seen in names else replace(found, seen="")  # a bundle from before it
