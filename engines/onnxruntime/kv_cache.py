"""The KV cache of graphs on ONNX Runtime, in whatever memory, for every dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..cache_layout import CacheLayout
from ..kv_length import KvLength, prefix_tokens, present
from ..tensors import Array, TensorSpec
from .memory import Block, Memory

__all__ = ["GrowingKvCache", "OnnxKvCache", "axes_of", "new_cache"]


class OnnxKvCache(KvLength):
    """Keys and values in buffers of the full capacity; several sessions with the same layers may take turns on it.

    In memory of the host, pages are taken as positions are written, not when the cache is made.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], capacity_tokens: int, memory: Memory) -> None:
        super().__init__(capacity_tokens)
        self.axes = axes_of(specs)
        self.memory = memory
        step = memory.capacity_step
        self.built_tokens = -(-capacity_tokens // step) * step
        """Positions that the buffers have, as many as may be used or a few more."""
        self._blocks = self._side(specs)

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self._blocks.values())

    def fill(self, prefix: Mapping[str, Array]) -> None:
        tokens = prefix_tokens(_shapes(prefix), self._blocks, self.capacity_tokens)
        for name, block in self._blocks.items():
            self.memory.write_prefix(block, prefix[present(name)])
        self._length = tokens

    def pasts(self) -> Mapping[str, Block]:
        """What the cache inputs of a graph are bound to."""
        return self._blocks

    def presents(self, tokens: int) -> Mapping[str, Block]:
        """What its cache outputs are bound to, by the names of the inputs, when it appends ``tokens`` positions."""
        return self._blocks

    def _side(self, specs: Mapping[str, TensorSpec]) -> dict[str, Block]:
        return {
            spec.name: self.memory.zeros(
                tuple(axis if isinstance(axis, int) else self.built_tokens for axis in spec.axes), spec.dtype
            )
            for spec in specs.values()
        }


class GrowingKvCache(OnnxKvCache):
    """For graphs that hand out past and new positions as one longer tensor: two buffers that take turns.

    A tensor of n positions has another layout than one of n + 1, so a rewind is only noted. The next call moves the
    positions that are still valid together. In memory of the host only: this dialect is that of one engine, and runs
    here so that its graphs can be judged.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], capacity_tokens: int, memory: Memory) -> None:
        super().__init__(specs, capacity_tokens, memory)
        self._spare = self._side(specs)
        self._laid_out = 0
        """Positions of the tensors that the buffers hold."""

    @property
    def nbytes(self) -> int:
        return 2 * super().nbytes

    def fill(self, prefix: Mapping[str, Array]) -> None:
        tokens = prefix_tokens(_shapes(prefix), self._blocks, self.capacity_tokens)
        for name, block in self._blocks.items():
            _tensor(block, tokens)[...] = prefix[present(name)]
        self._length = self._laid_out = tokens

    def pasts(self) -> Mapping[str, Block]:
        if self._laid_out != self._length:
            for name, block in self._blocks.items():
                _tensor(self._spare[name], self._length)[...] = _tensor(block, self._laid_out)[:, :, : self._length]
            self._turn(self._length)
        return {name: _of_length(block, self._length) for name, block in self._blocks.items()}

    def presents(self, tokens: int) -> Mapping[str, Block]:
        return {name: _of_length(block, self._length + tokens) for name, block in self._spare.items()}

    def grow(self, tokens: int) -> None:
        super().grow(tokens)
        self._turn(self._length)

    def _turn(self, tokens: int) -> None:
        self._blocks, self._spare = self._spare, self._blocks
        self._laid_out = tokens


def new_cache(
    cache_layout: CacheLayout, specs: Mapping[str, TensorSpec], capacity_tokens: int, memory: Memory
) -> OnnxKvCache:
    """A cache of that dialect for the cache inputs ``specs`` of a graph."""
    kind = OnnxKvCache if cache_layout.in_place else GrowingKvCache
    return kind(specs, capacity_tokens, memory)


def axes_of(specs: Mapping[str, TensorSpec]) -> dict[str, tuple[int | str, ...]]:
    return {name: spec.axes for name, spec in specs.items()}


def _shapes(prefix: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in prefix.items()}


def _of_length(block: Block, tokens: int) -> Block:
    """The same memory as a tensor of that many positions."""
    batch, heads, _, width = block.shape
    return replace(block, shape=(batch, heads, tokens, width))


def _tensor(block: Block, tokens: int) -> Array:
    batch, heads, _, width = block.shape
    flat: Array = block.owner.reshape(-1)
    return flat[: batch * heads * tokens * width].reshape(batch, heads, tokens, width)
