"""What an engine session is, whatever runs it.

A session is opened by ``with``, fed by name, timed by nobody inside. Arrays that it returns are valid until its next
call, and have to be looked at before it. A graph with a KV cache is run over a :class:`KvCache`: the cache lives where
the engine wants it, is updated in place, and is rewound by setting its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

from .tensors import Array, TensorSpec

__all__ = ["CPU_ROWS", "GPU_ROWS", "GraphSession", "KvCache"]

CPU_ROWS = 192
"""Positions read at once on a CPU. Activations of more rows do not stay in its cache between products: 533 positions of
the full model took 8.9 s in calls of 512, and 6.0 s in calls of 178; 64 rows at once do not fill the cores
(docs/lab/2026-11-27-a-quiet-machine.md)."""
GPU_ROWS = 512
"""The same on a GPU, where it has not been measured; TensorRT's profiles allow no more in one call."""


class KvCache(Protocol):
    """Keys and values of every layer, in memory of the engine, with room for ``capacity_tokens`` positions.

    Positions from ``length_tokens`` on are undefined; ``rewind`` is free and forgets them.
    """

    @property
    def capacity_tokens(self) -> int: ...

    @property
    def length_tokens(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def rewind(self, length_tokens: int) -> None:
        """Forget everything from position ``length_tokens`` on.

        Raises:
            ValueError: the length is negative or beyond what is held.
        """
        ...

    def fill(self, prefix: Mapping[str, Array]) -> None:
        """Replace the contents by ``prefix``, the outputs of a prefill graph: ``present.{layer}.key`` and ``.value``
        [1, heads, tokens, head_dim] of every layer.

        Raises:
            ValueError: layers are missing, or are not those of the cache (a bug of the caller).
            ContextOverflow: the prefix is longer than the capacity; nothing was changed.
        """
        ...


class GraphSession(Protocol):
    """One opened graph. ``inputs`` and ``outputs`` leave out the tensors of the KV cache and its lengths."""

    @property
    def name(self) -> str: ...

    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def max_tokens(self) -> int | None:
        """Positions of the largest cache that :meth:`new_cache` can make; None when memory alone is the limit."""
        ...

    @property
    def rows_at_once(self) -> int:
        """Positions that are best appended in one call, where more are waiting: what fills the engine, and no more."""
        ...

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> Mapping[str, Array]:
        """Run the graph once; with a cache, append the positions of ``feeds`` to it.

        What is returned may still lie on a device: an array is copied from there when it is looked at.

        Raises:
            ValueError: the feeds do not fit the inputs (a bug of the caller).
            ContextOverflow: the cache has no room for the new positions; nothing was changed.
        """
        ...

    def new_cache(self, capacity_tokens: int) -> KvCache: ...

    def close(self) -> None: ...

    def __enter__(self) -> GraphSession: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
