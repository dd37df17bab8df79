"""The KV cache of an engine: in memory of the GPU, written in place, or grown in two buffers that take turns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vita_edge.engines.errors import ContextOverflow
from vita_edge.engines.kv_length import KvLength, prefix_tokens, present
from vita_edge.engines.tensors import Array, TensorSpec

from .buffer_layout import cache_shape
from .device_memory import DeviceBlock, DeviceTensor, Lane, TensorRtOutputs

__all__ = ["GrowingTensorRtKvCache", "TensorRtKvCache"]


class TensorRtKvCache(KvLength):
    """Keys and values in buffers of the capacity that the engine was built for.

    Args:
        specs: cache inputs of the engine.
        capacity_tokens: positions that may be used.
        built_tokens: positions that the engine's tensors have: as many, or more.

    Raises:
        ContextOverflow: the engine was built for fewer.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], capacity_tokens: int, built_tokens: int, lane: Lane) -> None:
        super().__init__(capacity_tokens)
        if capacity_tokens > built_tokens:
            raise ContextOverflow(
                f"A context of {capacity_tokens:,} tokens is more than the engine has.",
                why=f"It was built for {built_tokens:,}.",
                fix="Ask for a smaller --context, or build the engine with a larger one: see `vita-edge build --help`.",
            )
        self.axes = {name: spec.axes for name, spec in specs.items()}
        self._lane = lane
        self._specs, self.built_tokens = dict(specs), built_tokens
        self._blocks = self._side()

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self._blocks.values())

    def fill(self, prefix: Mapping[str, Array]) -> None:
        """See the protocol. What lies on the GPU is copied there; what does not is brought first."""
        with self._lane.lock:
            self._fill(prefix)

    def _fill(self, prefix: Mapping[str, Array]) -> None:
        if isinstance(prefix, TensorRtOutputs):
            tensors = dict(prefix.tensors)
            brought: list[DeviceBlock] = []
        else:
            brought, tensors = self._brought(prefix)
        tokens = prefix_tokens({n: t.shape for n, t in tensors.items()}, self._specs, self.capacity_tokens)
        for name, spec in self._specs.items():
            tensor, requested = tensors[present(name)], cache_shape(spec, tokens)
            if (tensor.dtype, tensor.shape) != (np.dtype(spec.dtype), requested):
                found = f"{tensor.dtype}{list(tensor.shape)}"
                raise ValueError(f"{present(name)} of the prefix is {found}, expected {spec.dtype}{list(requested)}")
        for name in self._specs:
            tensor = tensors[present(name)]
            self._copy(self._blocks[name].address, self._stride(tokens), tensor.address, tokens, name, tokens)
        self._filled(tokens)
        if brought:
            self._lane.cuda.wait(self._lane.stream)  # before they are given back

    def pasts(self) -> dict[str, DeviceTensor]:
        """What the cache inputs are bound to."""
        return {name: self._tensor(block, name, self.built_tokens) for name, block in self._blocks.items()}

    def presents(self, tokens: int) -> dict[str, DeviceTensor]:
        """What the cache outputs are bound to, by the names of the inputs, when ``tokens`` positions are appended."""
        return self.pasts()

    def _filled(self, tokens: int) -> None:
        self._length = tokens

    def _stride(self, tokens: int) -> int:
        """Positions from one head to the next of what is written by :meth:`fill`."""
        return self.built_tokens

    def _side(self) -> dict[str, DeviceBlock]:
        """Zeros: behind a mask, zero times what was there before may be NaN."""
        blocks = {}
        for name, spec in self._specs.items():
            nbytes = int(np.prod(cache_shape(spec, self.built_tokens))) * np.dtype(spec.dtype).itemsize
            blocks[name] = DeviceBlock(self._lane.cuda, nbytes)
            self._lane.cuda.clear(blocks[name].address, nbytes, self._lane.stream)
        return blocks

    def _tensor(self, block: DeviceBlock, name: str, tokens: int) -> DeviceTensor:
        spec = self._specs[name]
        return DeviceTensor(block.address, np.dtype(spec.dtype), cache_shape(spec, tokens))

    def _copy(self, target: int, target_stride: int, source: int, source_stride: int, name: str, tokens: int) -> None:
        """The first ``tokens`` positions of every head."""
        _, heads, _, width = cache_shape(self._specs[name], 1)
        position = width * np.dtype(self._specs[name].dtype).itemsize
        self._lane.cuda.copy_rows(
            target,
            target_stride * position,
            source,
            source_stride * position,
            tokens * position,
            heads,
            self._lane.stream,
        )

    def _brought(self, prefix: Mapping[str, Array]) -> tuple[list[DeviceBlock], dict[str, DeviceTensor]]:
        blocks, tensors = [], {}
        for name, array in prefix.items():
            array = np.ascontiguousarray(array)
            block = DeviceBlock(self._lane.cuda, array.nbytes)
            self._lane.cuda.upload(block.address, array.ctypes.data, array.nbytes, self._lane.stream)
            self._lane.cuda.wait(self._lane.stream)  # the array may be gone when this returns
            tensors[name] = DeviceTensor(block.address, array.dtype, array.shape)
            blocks.append(block)
        return blocks, tensors


class GrowingTensorRtKvCache(TensorRtKvCache):
    """For engines whose present is a longer tensor than their past.

    A tensor of n positions has another layout than one of n + 1, so a rewind is only noted, and the next call moves the
    positions that are still valid together: one strided copy a layer.
    """

    def __init__(self, specs: Mapping[str, TensorSpec], capacity_tokens: int, built_tokens: int, lane: Lane) -> None:
        super().__init__(specs, capacity_tokens, built_tokens, lane)
        self._spare = self._side()
        self._laid_out = 0
        """Positions of the tensors that the buffers hold."""

    @property
    def nbytes(self) -> int:
        return 2 * super().nbytes

    def pasts(self) -> dict[str, DeviceTensor]:
        if self._laid_out != self._length:
            for name, block in self._blocks.items():
                target = self._spare[name].address
                self._copy(target, self._length, block.address, self._laid_out, name, self._length)
            self._turn(self._length)
        return {name: self._tensor(block, name, self._length) for name, block in self._blocks.items()}

    def presents(self, tokens: int) -> dict[str, DeviceTensor]:
        return {name: self._tensor(block, name, self._length + tokens) for name, block in self._spare.items()}

    def grow(self, tokens: int) -> None:
        super().grow(tokens)
        self._turn(self._length)

    def _filled(self, tokens: int) -> None:
        super()._filled(tokens)
        self._laid_out = tokens

    def _stride(self, tokens: int) -> int:
        return tokens

    def _turn(self, tokens: int) -> None:
        self._blocks, self._spare = self._spare, self._blocks
        self._laid_out = tokens
