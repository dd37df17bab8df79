"""Does it fit: memory of a model on a device before anything is built, and what would make it fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vita_edge.engines.bundle.component_spec import LLM
from vita_edge.engines.bundle.work import ModelWork
from vita_edge.engines.session import CPU_ROWS, GPU_ROWS
from vita_edge.engines.tensorrt.build.build_cost import building_bytes
from vita_edge.engines.tensorrt.build.profiles import speech_capacity
from vita_edge.runtime.speech.clause_synthesis import CHUNKS

from .device_file import Device
from .weight_bits import PRECISIONS, WeightBits, weight_bits

__all__ = ["MemoryFit", "Verdict", "advice", "memory_fit"]

Verdict: TypeAlias = Literal["fits", "tight", "no"]

TIGHT = 0.9
"""Of what is there: above it, a talk depends on nothing else running."""
SPEECH_ROWS = 512
"""Vectors of a clause that the speech decoder reads before its first code, generously."""
AUDIO_STEPS = 100
"""Four seconds of sound at once; a live talk encodes less."""
LIVE = 4
"""Values of the widest layer that are alive at once, in widths. With it, 512 rows of the full model take 78 MB;
TensorRT for RTX takes 81 MB for them."""
SHORTEST = 1024
"""Positions of a context below which no talk is held."""
STEP = 256


@dataclass(frozen=True)
class MemoryFit:
    """Bytes by what they are for, when every component has run and the contexts are full."""

    weights: Mapping[str, int]
    """By component."""
    kv_cache: int
    speech_kv_cache: int
    activations: int
    runtime: int
    system: int
    """Not ours: what the device's system keeps."""
    memory: int
    """Of the device."""
    on_disk: int
    """The token table: mapped, a row of it read for a token; not counted."""

    @property
    def needed(self) -> int:
        """What we take."""
        return sum(self.weights.values()) + self.kv_cache + self.speech_kv_cache + self.activations + self.runtime

    @property
    def available(self) -> int:
        """What the device has for us."""
        return self.memory - self.system

    @property
    def build_peak(self) -> int:
        """What building the largest engine takes of the memory of the machine that builds, about. TensorRT alone."""
        return building_bytes(self.weights.get(LLM.name, 0))

    @property
    def verdict(self) -> Verdict:
        if self.needed > self.available:
            return "no"
        return "tight" if self.needed > TIGHT * self.available else "fits"


def memory_fit(
    work: ModelWork, device: Device, precision: str, context_tokens: int, weights: Mapping[str, int] | None = None
) -> MemoryFit:
    """What a model takes of a device.

    Args:
        context_tokens: positions of the language model's KV cache.
        weights: resident bytes of each component where files say them; else they are counted.
    """
    form, position = weight_bits(device.backend, precision), _cache_bytes(device, precision)
    return MemoryFit(
        weights=weights or form.weights(work),
        kv_cache=context_tokens * work.llm.kv_values() * position,
        speech_kv_cache=_speech_positions(work, device) * work.speech.kv_values() * position,
        activations=_activations(work, form, CPU_ROWS if device.backend == "onnxruntime-cpu" else GPU_ROWS),
        runtime=device.runtime_mib << 20,
        system=device.system_mib << 20,
        memory=int(device.memory_gib * 2**30),
        on_disk=2 * work.parts.embedding.weights,
    )


def _cache_bytes(device: Device, precision: str) -> int:
    """Of a number in a KV cache: where it grows by a copy, it is held twice."""
    return weight_bits(device.backend, precision).cache_bytes * (2 if device.target == "tensorrt-10.3" else 1)


def _speech_positions(work: ModelWork, device: Device) -> int:
    """Of the speech decoder's cache: as many as a plan is built for, or all there are."""
    if device.backend == "tensorrt":
        return speech_capacity(work.vectors_per_token, work.speech_context_tokens)
    return work.speech_context_tokens


def _activations(work: ModelWork, form: WeightBits, rows: int) -> int:
    """Of all components together, as if none shared. Prompts are read ``rows`` at once."""
    parts = work.parts
    values = (
        rows * parts.llm_layers.widest
        + parts.vision.widest
        + AUDIO_STEPS * parts.audio_encoder.widest
        + SPEECH_ROWS * parts.speech_layers.widest
        + (CHUNKS[-1] + work.codec_left + work.codec_right) * parts.codec.widest
    )
    return LIVE * values * form.activation_bytes


def advice(
    work: ModelWork, device: Device, precision: str, context_tokens: int, weights: Mapping[str, int] | None = None
) -> str | None:
    """What would make a model fit that does not, in a sentence; None where nothing does.

    Args:
        weights: at ``precision``, as in :func:`memory_fit`.
    """
    context = _longest_context(work, device, precision, context_tokens, weights)
    if context:
        return f"with a context of {context:,} tokens it would fit"
    for other in PRECISIONS[PRECISIONS.index(precision) + 1 :]:
        context = _longest_context(work, device, other, context_tokens)
        if context == context_tokens:
            return f"at {other} it would fit"
        if context:
            return f"at {other} and with a context of {context:,} tokens it would fit"
    return None


def _longest_context(
    work: ModelWork, device: Device, precision: str, maximum: int, weights: Mapping[str, int] | None = None
) -> int:
    """Positions up to ``most`` with which it fits, tightly perhaps; 0 when it does not."""
    if memory_fit(work, device, precision, maximum, weights).verdict != "no":
        return maximum
    bare = memory_fit(work, device, precision, 0, weights)
    position = work.llm.kv_values() * _cache_bytes(device, precision)
    longest = (bare.available - bare.needed) // position // STEP * STEP
    return longest if longest >= SHORTEST else 0
