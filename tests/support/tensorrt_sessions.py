"""TensorRT sessions over host memory in the GPU's place."""

from __future__ import annotations

from typing import Any

from support.host_gpu import RTX, TRT, HostCuda, HostEngine
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.tensorrt.build.profiles import Profile, ProfileRange
from vita_edge.engines.tensorrt.context import Engine
from vita_edge.engines.tensorrt.device_memory import Lane
from vita_edge.engines.tensorrt.kernel_cache import KernelCache
from vita_edge.engines.tensorrt.session import TensorRtSession

__all__ = ["CAPACITY", "decoder_profiles", "opened"]

CAPACITY = 48


def decoder_profiles(engine: HostEngine, first: str, maximum: int) -> tuple[Profile, ...]:
    """Single positions, and up to ``most`` of them."""
    cache = {}
    for name, spec in engine.inputs.items():
        if name.startswith("past_key_values"):
            batch, heads, axis, width = spec.axes
            low, high = (0, CAPACITY) if axis == "past" else (CAPACITY, CAPACITY)
            shapes = [(batch, heads, n, width) for n in (low, high, high)]
            cache[name] = ProfileRange(*shapes)  # type: ignore[arg-type]
    rest = tuple(engine.inputs[first].axes[2:])

    def profile(name: str, low: int, high: int) -> Profile:
        shapes = [(1, low, *rest), (1, high, *rest), (1, high, *rest)]
        return Profile(name, {first: ProfileRange(*shapes), **cache})  # type: ignore[arg-type]

    return profile("step", 1, 1), profile("prefill", 1, maximum)


def opened(
    bundle: Bundle,
    component: str,
    cuda: HostCuda,
    *,
    maximum: int = 16,
    lane: Lane | None = None,
    kernels: KernelCache | None = None,
    **options: Any,
) -> tuple[TensorRtSession, HostEngine]:
    engine = HostEngine(bundle.components[component].graph, cuda, **options)
    first = next(name for name in engine.inputs if not name.startswith("past"))
    decoder = any(name.startswith("past_key_values") for name in engine.inputs)
    engine.profiles = decoder_profiles(engine, first, maximum) if decoder else ()
    session = TensorRtSession(
        Engine(component, RTX if kernels else TRT, engine, lambda: "the library says no", kernels=kernels),
        engine.inputs,
        engine.outputs,
        engine.profiles,
        CAPACITY if decoder else None,
        lane or Lane(cuda, "mind"),  # type: ignore[arg-type]
    )
    return session, engine
