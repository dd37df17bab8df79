"""The KV cache of a graph on ONNX Runtime's CPU provider, and how a graph is run over it without copies."""

from __future__ import annotations

from collections.abc import Mapping
from mmap import mmap
from weakref import ref

import numpy as np
import onnxruntime as ort

from .errors import ContextOverflow
from .onnx_options import give_back
from .tensors import Array, TensorSpec

__all__ = ["PAST", "PAST_LENGTH", "PRESENT", "TOTAL_LENGTH", "CachedRun", "OnnxCpuKvCache", "axes_of", "present"]

PAST, PRESENT = "past_key_values.", "present."
PAST_LENGTH, TOTAL_LENGTH = "seqlens_k", "total_sequence_length"
"""The two lengths that com.microsoft.GroupQueryAttention asks for: last valid position, and number of positions."""


class OnnxCpuKvCache:
    """Keys and values in buffers of the full capacity; several sessions with the same layers may take turns on it.

    Memory is taken page by page as positions are written, not when the cache is made.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], capacity_tokens: int) -> None:
        if capacity_tokens < 1:
            raise ValueError(f"a cache for {capacity_tokens} tokens")
        self.capacity_tokens = capacity_tokens
        self.axes = axes_of(specs)
        self.buffers: dict[str, Array] = {}
        for spec in specs.values():
            shape = [axis if isinstance(axis, int) else capacity_tokens for axis in spec.axes]
            self.buffers[spec.name] = _zeros_page_by_page(shape, np.dtype(spec.dtype))
        self._length = 0

    @property
    def length_tokens(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers.values())

    def rewind(self, length_tokens: int) -> None:
        if not 0 <= length_tokens <= self._length:
            raise ValueError(f"cannot rewind a cache of {self._length} tokens to {length_tokens}")
        self._length = length_tokens

    def fill(self, prefix: Mapping[str, Array]) -> None:
        buffers = {present(name): buffer for name, buffer in self.buffers.items()}
        if set(prefix) != set(buffers):
            raise ValueError(f"a prefix for {sorted(prefix)}, expected {sorted(buffers)}")
        tokens = next(iter(prefix.values())).shape[2]
        if tokens > self.capacity_tokens:
            raise ContextOverflow(
                f"A prefix of {tokens} positions does not fit into a cache of {self.capacity_tokens}.",
                why="The KV cache has a fixed capacity.",
                fix="Give a shorter sentence.",
            )
        for name, array in prefix.items():
            buffers[name][:, :, :tokens] = array
        self._length = tokens

    def grow(self, tokens: int) -> None:
        """Count ``tokens`` positions that a graph has written."""
        self._length += tokens

    def check_room(self, tokens: int) -> None:
        """Raise ContextOverflow if that many more positions do not fit."""
        if self._length + tokens > self.capacity_tokens:
            raise ContextOverflow(
                f"{tokens} more positions do not fit: {self._length} of {self.capacity_tokens} are taken.",
                why="The KV cache has a fixed capacity.",
                fix="Ask for less, or open the conversation with a larger context.",
            )


class CachedRun:
    """One session over one cache, with everything that stays the same between calls bound once.

    Each buffer of the cache is past and present of its layer at once. The attention operator sees that both are one
    address and writes new positions in place: nothing is copied or reallocated between steps.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        cache: OnnxCpuKvCache,
    ) -> None:
        self._session = session
        self._give_back = give_back()
        self._binding = session.io_binding()
        self._buffers = cache.buffers  # kept alive; the cache itself is not, so that it can be forgotten
        self._cache = ref(cache)
        for name, buffer in cache.buffers.items():
            self._bind_input(name, buffer)
            self._bind_output(present(name), buffer)
        self._lengths = {name: np.zeros(1, np.int32) for name in (PAST_LENGTH, TOTAL_LENGTH)}
        for name, array in self._lengths.items():
            self._bind_input(name, array)
        self._first = next(iter(inputs))
        self._result: dict[str, Array] = {}
        self._loose: list[str] = []
        """Outputs whose shape is known only when they are there."""
        for name, spec in outputs.items():
            if all(isinstance(axis, int) for axis in spec.axes):
                self._result[name] = np.empty([int(axis) for axis in spec.axes], spec.dtype)
                self._bind_output(name, self._result[name])
            else:
                self._binding.bind_output(name, "cpu")
                self._loose.append(name)
        self._step: dict[str, Array] = {}
        """Feeds of a single position, at addresses that stay."""
        self._fed: dict[str, Array] = {}

    def append(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run over the cache; the second axis of the first input counts the new positions."""
        cache = self._cache()
        assert cache is not None
        tokens = feeds[self._first].shape[1]
        cache.check_room(tokens)
        total = cache.length_tokens + tokens
        self._lengths[PAST_LENGTH][0] = total - 1
        self._lengths[TOTAL_LENGTH][0] = total
        if tokens == 1:  # the decode loop: nothing is bound or allocated again
            if not self._step:
                self._step = {name: np.array(array) for name, array in feeds.items()}
            for name, array in feeds.items():
                self._step[name][...] = array
            self._feed(self._step)
        else:
            self._feed({name: np.ascontiguousarray(array) for name, array in feeds.items()})
        self._session.run_with_iobinding(self._binding, None if tokens == 1 else self._give_back)
        cache.grow(tokens)
        if self._loose:
            values = dict(zip(self._binding.get_outputs_names(), self._binding.get_outputs()))
            self._result.update({name: values[name].numpy() for name in self._loose})
        return self._result

    def _feed(self, feeds: dict[str, Array]) -> None:
        if feeds is self._fed:
            return
        for name, array in feeds.items():
            self._bind_input(name, array)
        self._fed = feeds

    def _bind_input(self, name: str, array: Array) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)

    def _bind_output(self, name: str, array: Array) -> None:
        self._binding.bind_output(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)


def present(past: str) -> str:
    """The output that a cache input grows into."""
    return PRESENT + past[len(PAST) :]


def axes_of(specs: Mapping[str, TensorSpec]) -> dict[str, tuple[int | str, ...]]:
    return {name: spec.axes for name, spec in specs.items()}


def _zeros_page_by_page(shape: list[int], dtype: np.dtype[np.generic]) -> Array:
    """Zeros of which the system takes a page when it is first written to. What numpy makes may be memory that was used
    before, and is then cleared, and so taken, as a whole."""
    pages = mmap(-1, max(int(np.prod(shape)) * dtype.itemsize, 1))
    return np.frombuffer(pages, dtype, int(np.prod(shape))).reshape(shape)
