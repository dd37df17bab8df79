"""How a graph is run over a KV cache without copies."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime as ort

from ..cache_layout import CacheLayout
from ..kv_length import present
from ..tensors import Array, TensorSpec
from .kv_cache import OnnxKvCache
from .memory import Block, Memory

__all__ = ["CachedRun"]


class CachedRun:
    """One session over one cache, with everything that stays the same between calls bound once.

    Where the dialect works in place, each buffer of the cache is past and present of its layer at once. The operators
    see that both are one address and write new positions there: nothing is copied or reallocated between steps.

    Args:
        give_back: how calls of many rows are run, so that the memory of their activations is given back.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        cache: OnnxKvCache,
        cache_layout: CacheLayout,
        give_back: ort.RunOptions,
    ) -> None:
        self._session, self._cache_layout, self._give_back = session, cache_layout, give_back
        self._memory: Memory = cache.memory
        self._binding = session.io_binding()
        self._held: dict[str, Block] = {}
        """What inputs and outputs are bound to is kept alive; the cache itself is not, so that it can be forgotten."""
        self._bound: dict[str, None] = {}
        """Outputs in the order in which they were bound first, which is that of the backend's list."""
        if cache_layout.in_place:
            self._bind_cache(cache, 0)
        self._reported = cache_layout.length_arrays()
        self._lengths = {name: self._memory.hold(array) for name, array in self._reported.items()}
        for name, block in self._lengths.items():
            self._bind_input(name, block)
        self._seen = 0
        self._first = next(iter(inputs))
        fixed = {name: spec for name, spec in outputs.items() if all(isinstance(axis, int) for axis in spec.axes)}
        blocks: dict[str, Block] = {}
        for name, spec in fixed.items():
            blocks[name] = self._memory.zeros(tuple(int(axis) for axis in spec.axes), spec.dtype)
            self._bind_output(name, blocks[name])
        self._blocks = blocks
        self._loose = [name for name in outputs if name not in fixed]
        """Outputs whose shape is known only when they are there."""
        self._same = self._memory.outputs(blocks, {}) if self._memory.readable and not self._loose else None
        """What every call returns, where outputs are the arrays that a graph writes into."""
        self._step: dict[str, Block] = {}
        """Feeds of a single position, at addresses that stay."""
        self._fed: Mapping[str, Block] = {}

    def append(self, feeds: Mapping[str, Array], cache: OnnxKvCache) -> Mapping[str, Array]:
        """Run over the cache; the second axis of the first input counts the new positions."""
        tokens = feeds[self._first].shape[1]
        cache.check_room(tokens)
        self._cache_layout.report(self._reported, cache.length_tokens, tokens)
        for name, array in self._reported.items():
            self._memory.write(self._lengths[name], array)
        if self._cache_layout.seen:
            self._bind_seen(self._cache_layout.sees(cache.length_tokens + tokens, cache.built_tokens))
        if tokens == 1:  # the decode loop: nothing is bound or allocated again
            if not self._step:
                self._step = {name: self._memory.zeros(array.shape, str(array.dtype)) for name, array in feeds.items()}
            for name, array in feeds.items():
                self._memory.write(self._step[name], array)
            self._feed(self._step)
        else:
            self._feed({name: self._memory.hold(array) for name, array in feeds.items()})
        if not self._cache_layout.in_place:
            self._bind_cache(cache, tokens)
        for name in self._loose:  # anew: what was handed out for one shape does not take another
            self._binding.bind_output(name, self._memory.device)
            self._bound[name] = None
        self._session.run_with_iobinding(self._binding, None if tokens == 1 else self._give_back)
        cache.grow(tokens)
        return self._results()

    def _results(self) -> Mapping[str, Array]:
        if self._same is not None:
            return self._same
        values = dict(zip(self._bound, self._binding.get_outputs())) if self._loose else {}
        return self._memory.outputs(self._blocks, {name: values[name] for name in self._loose})

    def _bind_cache(self, cache: OnnxKvCache, tokens: int) -> None:
        for name, block in cache.pasts().items():
            self._bind_input(name, block)
        for name, block in cache.presents(tokens).items():
            self._bind_output(present(name), block)

    def _bind_seen(self, tokens: int) -> None:
        if tokens != self._seen:
            self._bind_input(self._cache_layout.seen, self._memory.zeros((tokens,), "bool"))
            self._seen = tokens

    def _feed(self, feeds: Mapping[str, Block]) -> None:
        if feeds is self._fed:
            return
        for name, block in feeds.items():
            self._bind_input(name, block)
        self._fed = feeds

    def _bind_input(self, name: str, block: Block) -> None:
        self._held[name] = block
        self._binding.bind_input(name, self._memory.device, 0, block.dtype.type, list(block.shape), block.address)

    def _bind_output(self, name: str, block: Block) -> None:
        self._held[name] = block
        self._bound[name] = None
        self._binding.bind_output(name, self._memory.device, 0, block.dtype.type, list(block.shape), block.address)
