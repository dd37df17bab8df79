"""Single-token steps over one KV cache: one small copy up, one launch, one small copy down."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from vita_edge.engines.errors import VitaEdgeError
from vita_edge.engines.kv_length import present
from vita_edge.engines.tensors import Array, TensorSpec

from ..cache_layout import CacheLayout
from .buffer_layout import lay_out
from .context import Context, Engine
from .device_memory import DeviceBlock, DeviceTensor, Lane, Mirror, TensorRtOutputs
from .kv_cache import TensorRtKvCache

__all__ = ["StepRun"]

SMALL_BYTES = 64 << 10
"""Outputs of at most this size come back with every step; larger ones (logits) stay until somebody looks."""
EAGER_STEPS = 1
"""Calls before the capture: TensorRT does some things at its first call, and at the first with other activations, that
must not be a part of a graph."""

_capturing = threading.Lock()
"""One capture at a time: whoever ends first would let garbage be collected in the middle of the other."""


class StepRun:
    """One engine over one cache, one position at a time, all addresses fixed.

    Feeds and lengths lie together in pinned memory, and so do the small outputs. So a step is always the same row of
    commands, copies included, and from the second one on they are launched as one CUDA graph. It has a context of its
    own, since a graph holds the addresses of the context that it was captured from.

    Args:
        inputs: without those of the cache; lengths are told by ``dialect``.
    """

    def __init__(
        self,
        engine: Engine,
        profile: int,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        cache: TensorRtKvCache,
        cache_layout: CacheLayout,
        lane: Lane,
        *,
        graphs: bool = True,
    ) -> None:
        self._lane, self._cache_layout = lane, cache_layout
        self._context: Context = engine.context(profile, lane, steps=True)
        self._steps = 0
        """With the activations at hand."""
        self._graph: Any = None
        self._destroy_graph: weakref.finalize[..., Any] | None = None
        self.without_graph = "" if graphs else "not wanted"
        """Why steps are not launched as a graph, if they are not."""
        shapes = {name: _single(spec) for name, spec in inputs.items()}
        reported = {name: (dtype, (1,)) for name, (dtype, _) in cache_layout.lengths.items()}
        feeds = [(name, spec.dtype, shapes[name]) for name, spec in inputs.items()]
        self._parts, nbytes = lay_out([*feeds, *((name, dtype, shape) for name, (dtype, shape) in reported.items())])
        self._up = Mirror(lane.cuda, nbytes)
        views = {n: self._up.array(part.offset, part.dtype, part.shape) for n, part in self._parts.items()}
        self._feeds = {name: views[name] for name in inputs}
        self._reported = {name: views[name] for name in reported}
        for name, part in self._parts.items():
            self._context.shape(name, part.shape)
            on_host = engine.on_host(name)
            if on_host:
                self.without_graph = f"{name} decides about shapes, which are fixed in a graph"
            address = views[name].ctypes.data if on_host else self._up.device.address + part.offset
            self._context.bind(name, address)
        for name, tensor in cache.pasts().items():
            self._context.shape(name, tensor.shape)
            self._context.bind(name, tensor.address)
            self._context.bind(present(name), tensor.address)
        self._seen: DeviceBlock | None = None
        if cache_layout.seen:  # all of the cache, so that it is read where it lies; and the shapes of a graph are fixed
            self._seen = DeviceBlock(lane.cuda, cache.built_tokens)
            self._context.shape(cache_layout.seen, (cache.built_tokens,))
            self._context.bind(cache_layout.seen, self._seen.address)
        self._bind_outputs(outputs)

    def run(self, feeds: Mapping[str, Array], length_tokens: int) -> TensorRtOutputs:
        """Append one position to ``length_tokens`` of them."""
        for name, array in feeds.items():
            self._feeds[name][...] = array
        self._cache_layout.report(self._reported, length_tokens, 1)
        if self._context.prepare():
            self._forget_graph()
            self._steps = 0
        if self._graph is None and self._steps >= EAGER_STEPS and not self.without_graph:
            self._capture()
        if self._graph is not None:
            self._lane.cuda.launch(self._graph, self._lane.stream)
        else:
            self._commands()
        self._lane.cuda.wait(self._lane.stream)
        self._steps += 1
        return TensorRtOutputs(self._tensors, self._lane, self._here, keep=self)

    def close(self) -> None:
        self._forget_graph()
        self._context.close()
        self._up.close()
        self._down.close()
        for block in (self._seen, self._large):
            if block is not None:
                block.close()

    def _commands(self) -> None:
        self._up.upload(self._lane.stream)
        self._context.enqueue()
        self._down.download(self._lane.stream)

    def _capture(self) -> None:
        """Record a step; where that is refused, steps go on being told one command after the other."""
        if not self._context.capturable():
            self.without_graph = "the library says that this engine cannot be captured"
            return
        cuda, stream = self._lane.cuda, self._lane.stream
        with _capturing:
            collecting = gc.isenabled()
            gc.disable()  # memory that is given back in the middle would end the capture
            try:
                cuda.begin_capture(stream)
                self._commands()
                self._graph = cuda.end_capture(stream)
                self._destroy_graph = weakref.finalize(self, cuda.destroy_graph, self._graph)
            except VitaEdgeError as error:
                cuda.abandon_capture(stream)
                self.without_graph = f"{error.what} {error.why}"
            finally:
                if collecting:
                    gc.enable()

    def _forget_graph(self) -> None:
        """It holds the address of the activations."""
        if self._destroy_graph is not None:
            self._destroy_graph()
        self._graph = self._destroy_graph = None

    def _bind_outputs(self, outputs: Mapping[str, TensorSpec]) -> None:
        shapes = self._context.output_shapes(outputs)
        tensors = [(name, spec.dtype, shapes[name]) for name, spec in outputs.items()]
        places, _ = lay_out(tensors)
        small, small_bytes = lay_out([tensor for tensor in tensors if places[tensor[0]].nbytes <= SMALL_BYTES])
        large, large_bytes = lay_out([tensor for tensor in tensors if tensor[0] not in small])
        self._down = Mirror(self._lane.cuda, small_bytes)
        self._large = DeviceBlock(self._lane.cuda, large_bytes) if large else None
        self._here = {name: self._down.array(part.offset, part.dtype, part.shape) for name, part in small.items()}
        self._tensors: dict[str, DeviceTensor] = {}
        for block, parts in ((self._down.device, small), (self._large, large)):
            for name, part in parts.items():
                assert block is not None
                address = block.address + part.offset
                self._tensors[name] = DeviceTensor(address, np.dtype(part.dtype), part.shape)
                self._context.bind(name, address)


def _single(spec: TensorSpec) -> tuple[int, ...]:
    """Shape of an input of one position: the named axis is 1."""
    return tuple(axis if isinstance(axis, int) else 1 for axis in spec.axes)
