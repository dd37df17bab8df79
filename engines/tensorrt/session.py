"""A graph as an engine of TensorRT, behind the same protocol as everywhere: fed by name, its KV cache on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from weakref import WeakKeyDictionary

import numpy as np

from vita_edge.engines.errors import EngineUnavailable
from vita_edge.engines.kv_length import PAST, present
from vita_edge.engines.session import GPU_ROWS, KvCache
from vita_edge.engines.tensors import Array, TensorSpec, check_feeds

from ..cache_layout import cache_layout_of
from .buffer_layout import lay_out
from .context import Context, Engine
from .device_memory import DeviceTensor, Lane, Scratch, TensorRtOutputs
from .kv_cache import GrowingTensorRtKvCache, TensorRtKvCache
from .shape_choice import ProfileShapes, choose_profile, max_positions, pieces, step_profile
from .step import StepRun

__all__ = ["TensorRtSession"]


class TensorRtSession:
    """An opened engine; see :class:`~vita_edge.engines.session.GraphSession`.

    Calls of one position over a cache that is written in place go through :class:`~.step.StepRun`. All others choose a
    profile by their shapes, and are copied up, run and waited for. A prompt that is longer than the largest profile is
    read in pieces.

    Args:
        engine: the deserialised engine.
        inputs, outputs: all of them, as the engine declares them.
        profiles: in TensorRT's order.
        capacity_tokens: positions that the engine's cache has; None for an engine without one.
        lane: the stream and the activations, shared with what runs before and after.
        graphs: launch single-token steps as CUDA graphs.

    Raises:
        EngineUnavailable: the engine does not write its cache in place.
    """

    rows_at_once = GPU_ROWS

    def __init__(
        self,
        engine: Engine,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        profiles: Sequence[ProfileShapes],
        capacity_tokens: int | None,
        lane: Lane,
        *,
        graphs: bool = True,
    ) -> None:
        self.name = engine.name
        self._engine, self._profiles, self._lane, self._graphs = engine, tuple(profiles), lane, graphs
        self._capacity = capacity_tokens
        self._cache_specs = {name: spec for name, spec in inputs.items() if name.startswith(PAST)}
        self._cache_layout = cache_layout_of(inputs)
        hidden = {*self._cache_specs, *self._cache_layout.inputs} if self._cache_specs else set()
        self.inputs = {name: spec for name, spec in inputs.items() if name not in hidden}
        appended = {present(name) for name in self._cache_specs}
        self.outputs = {name: spec for name, spec in outputs.items() if name not in appended}
        shapes = {name: tuple(n for n in spec.axes if isinstance(n, int)) for name, spec in self.outputs.items()}
        self._fixed = {n: s for n, s in shapes.items() if len(s) == len(self.outputs[n].axes)}
        """Shapes of the outputs that are known before a call."""
        self._on_host = {name for name in inputs if engine.on_host(name)}
        self._first = next(iter(self.inputs))
        self._step = step_profile(self._profiles, self._first) if self._in_place else None
        self._check_aliases()
        self._contexts: dict[int, Context] = {}
        self._runs: WeakKeyDictionary[TensorRtKvCache, StepRun] = WeakKeyDictionary()
        self.kernels = engine.kernels
        self.without_graph: str | None = None
        """Why the last step was not launched as a CUDA graph; empty if nothing speaks against it, None before."""
        self._used: set[int] = set()
        """Profiles that have run."""
        self._feeds, self._results = Scratch(lane.cuda), Scratch(lane.cuda)
        self._open = True

    @property
    def max_tokens(self) -> int | None:
        return self._capacity

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> Mapping[str, Array]:
        if not self._open:
            raise ValueError(f"{self.name} is closed")
        check_feeds(self.name, self.inputs, feeds)
        with self._lane.lock:
            if not self._cache_specs:
                return self._run(feeds, {}, {})
            return self._append(feeds, self._checked(cache))

    def new_cache(self, capacity_tokens: int) -> TensorRtKvCache:
        kind = TensorRtKvCache if self._in_place else GrowingTensorRtKvCache
        with self._lane.lock:
            return kind(self._cache_specs, capacity_tokens, self._capacity or capacity_tokens, self._lane)

    def close(self) -> None:
        """Give the engine and its memory back; the session cannot be used afterwards."""
        if not self._open:
            return
        with self._lane.lock:
            self._open = False
            self._engine.keep_kernels()
            for run in self._runs.values():
                run.close()
            self._runs = WeakKeyDictionary()
            for context in self._contexts.values():
                context.close()
            self._contexts.clear()
            self._feeds.close()
            self._results.close()
            del self._engine

    def __enter__(self) -> TensorRtSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _in_place(self) -> bool:
        return self._cache_layout.in_place

    def _checked(self, cache: KvCache | None) -> TensorRtKvCache:
        if not isinstance(cache, TensorRtKvCache):
            raise ValueError(f"{self.name} needs a cache that new_cache of a TensorRT session has made")
        axes = {name: spec.axes for name, spec in self._cache_specs.items()}
        if cache.axes != axes:
            raise ValueError(f"{self.name} and the cache have different layers: {cache.axes}")
        return cache

    def _append(self, feeds: Mapping[str, Array], cache: TensorRtKvCache) -> Mapping[str, Array]:
        tokens = feeds[self._first].shape[1]
        cache.check_room(tokens)
        for piece in pieces(tokens, max_positions(self._profiles, self._first)):
            part = {name: array[:, piece] for name, array in feeds.items()}
            count = part[self._first].shape[1]
            if count == 1 and self._step is not None:
                run = self._step_run(cache, self._step)
                result = run.run(part, cache.length_tokens)
                self.without_graph = run.without_graph
                self._ran(self._step)
            else:
                lengths = self._cache_layout.length_arrays()
                self._cache_layout.report(lengths, cache.length_tokens, count)
                if self._cache_layout.seen:
                    reach = self._cache_layout.sees(cache.length_tokens + count, cache.built_tokens)
                    lengths[self._cache_layout.seen] = np.zeros(reach, bool)
                pasts = cache.pasts()  # first: a rewound cache is moved together
                presents = {present(name): tensor for name, tensor in cache.presents(count).items()}
                result = self._run({**part, **lengths}, pasts, presents)
            cache.grow(count)
        return result

    def _step_run(self, cache: TensorRtKvCache, profile: int) -> StepRun:
        run = self._runs.get(cache)
        if run is None:
            run = self._runs[cache] = StepRun(
                self._engine,
                profile,
                self.inputs,
                self.outputs,
                cache,
                self._cache_layout,
                self._lane,
                graphs=self._graphs,
            )
        return run

    def _run(
        self,
        feeds: Mapping[str, Array],
        pasts: Mapping[str, DeviceTensor],
        presents: Mapping[str, DeviceTensor],
    ) -> TensorRtOutputs:
        """Copy up, run, wait. Outputs stay on the GPU until somebody looks at them."""
        arrays = {name: np.asarray(array, order="C") for name, array in feeds.items()}  # scalars stay scalars
        shapes = {name: array.shape for name, array in arrays.items()} | {n: t.shape for n, t in pasts.items()}
        index = choose_profile(self.name, self._profiles, shapes)
        context = self._contexts.get(index)
        if context is None:
            context = self._contexts[index] = self._engine.context(index, self._lane)
        context.prepare()
        cuda, stream = self._lane.cuda, self._lane.stream
        parts, nbytes = lay_out((name, str(array.dtype), array.shape) for name, array in arrays.items())
        block = self._feeds.block(nbytes)
        for name, array in arrays.items():
            context.shape(name, array.shape)
            if name in self._on_host:
                context.bind(name, array.ctypes.data)
                continue
            address = block.address + parts[name].offset
            if array.size:
                cuda.upload(address, array.ctypes.data, array.nbytes, stream)
            context.bind(name, address)
        for name, tensor in pasts.items():
            context.shape(name, tensor.shape)
            context.bind(name, tensor.address)
        for name, tensor in presents.items():
            context.bind(name, tensor.address)
        found = self._fixed if len(self._fixed) == len(self.outputs) else context.output_shapes(self.outputs)
        places, nbytes = lay_out((name, spec.dtype, found[name]) for name, spec in self.outputs.items())
        results = self._results.block(nbytes)
        tensors = {
            name: DeviceTensor(results.address + part.offset, np.dtype(part.dtype), part.shape)
            for name, part in places.items()
        }
        for name, tensor in tensors.items():
            context.bind(name, tensor.address)
        context.enqueue()
        cuda.wait(stream)
        self._ran(index)
        return TensorRtOutputs(tensors, self._lane)

    def _ran(self, profile: int) -> None:
        """What the first call of a profile had compiled is kept at once: a kiosk is switched off, not closed."""
        if profile not in self._used:
            self._used.add(profile)
            self._engine.keep_kernels()

    def _check_aliases(self) -> None:
        """The cache is bound once, as past and as present: the engine has to agree."""
        if not self._in_place:
            return
        for past in self._cache_specs:
            written = self._engine.aliased(present(past))
            if written not in (None, past):
                raise EngineUnavailable(
                    f"The engine of {self.name} writes {present(past)} into the memory of {written}.",
                    why="The KV cache has one buffer for the past and the present of a layer.",
                    fix="Build the engine again: see `vita-edge build --help`.",
                )
