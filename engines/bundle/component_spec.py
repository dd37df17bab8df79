"""The table of components: each graph of a bundle, what it takes and gives, where it runs, and what weights it has.

Graphs, profiles, estimate, parity and calibration read it. A new component is a row here, and a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..tensors import TensorSpec

__all__ = [
    "AUDIO",
    "CODEC",
    "COMPONENTS",
    "COMPONENT_SPECS",
    "LLM",
    "LLM_PREFILL",
    "SPEECH_DECODER",
    "SPEECH_PREFILL",
    "STREAMS",
    "VISION",
    "ComponentSpec",
    "Stream",
    "Width",
]

Stream: TypeAlias = Literal["language", "speech"]
"""What one thread of a live session runs, one call after the other: its graphs share a stream and a block of memory."""

STREAMS: tuple[Stream, ...] = ("language", "speech")

Width: TypeAlias = Literal["encoders", "llm", "llm_prefill", "speech", "heads", "convolutions"]
"""Weights that a precision stores in equally many bits."""


@dataclass(frozen=True)
class ComponentSpec:
    """One graph."""

    name: str
    inputs: tuple[TensorSpec, ...]
    """Without those of the KV cache and of pieces, which depend on the backend and on the checkpoint. An axis is fixed,
    variable, or named after a number of the model: :meth:`input` fixes that one."""
    output: str
    """Its result; in a prefix, ``present`` is that of every layer."""
    stream: Stream
    work: Mapping[str, Width]
    """Parts of the model (fields of :class:`~.work.Parts`) whose weights it holds, and how those are stored."""
    cached: bool = False
    """Extends a KV cache, a few tokens at a time: what counts are the bytes of its weights."""
    filled_by: str | None = None
    """Component whose output its KV cache is filled with before it begins."""
    many_rows: bool = False
    """Its products have many rows in every call."""
    optional: bool = False
    """Only some precisions have it."""

    def input(self, name: str, **lengths: int) -> tuple[str, str, tuple[int | str, ...]]:
        """Name, dtype and axes of an input, with the axes that ``lengths`` names fixed."""
        (spec,) = (spec for spec in self.inputs if spec.name == name)
        unknown = set(lengths) - set(spec.axes)
        if unknown:
            raise ValueError(f"{name} of {self.name} has no axis {', '.join(sorted(unknown))}")
        axes = tuple(lengths.get(axis, axis) if isinstance(axis, str) else axis for axis in spec.axes)
        return spec.name, spec.dtype, axes


def _takes(name: str, dtype: str, *axes: int | str) -> tuple[TensorSpec, ...]:
    return (TensorSpec(name, dtype, axes),)


VISION = ComponentSpec(
    name="vision",
    inputs=_takes("pixel_values", "float32", "tiles", 3, "side", "side"),
    output="image_embeds",
    stream="language",
    work={"vision": "encoders", "projector": "encoders"},
    many_rows=True,
)
AUDIO = ComponentSpec(
    name="audio",
    inputs=_takes("fbank", "float32", 1, "frames", "mel_bins"),
    output="audio_embeds",
    stream="language",
    work={"audio_encoder": "encoders", "audio_adapter": "encoders"},
    many_rows=True,
)
LLM = ComponentSpec(
    name="llm",
    inputs=_takes("inputs_embeds", "float32", 1, "tokens", "hidden_size"),
    output="logits",
    stream="language",
    work={"llm_layers": "llm", "llm_head": "heads"},
    cached=True,
)
SPEECH_PREFILL = ComponentSpec(
    name="speech_prefill",
    inputs=_takes("text_embeds", "float32", 1, "vectors", "width"),
    output="present",
    stream="speech",
    work={"speech_prefix": "encoders", "speech_layers": "encoders"},
)
SPEECH_DECODER = ComponentSpec(
    name="speech_decoder",
    inputs=_takes("code", "int64", 1, "tokens"),
    output="logits",
    stream="speech",
    work={"speech_layers": "speech", "speech_head": "heads"},
    cached=True,
    filled_by=SPEECH_PREFILL.name,
)
CODEC = ComponentSpec(
    name="codec",
    inputs=_takes("codes", "int64", "streams", "frames"),
    output="waveform",
    stream="speech",
    work={"codec": "convolutions"},
)
LLM_PREFILL = ComponentSpec(
    name="llm_prefill",
    inputs=LLM.inputs,
    output="present",
    stream=LLM.stream,
    work={"llm_layers": "llm_prefill"},
    cached=True,
    many_rows=True,
    optional=True,
)
"""Reads prompts over the cache of the language model, faster than the graph that decodes."""

COMPONENT_SPECS: Mapping[str, ComponentSpec] = {
    spec.name: spec for spec in (VISION, AUDIO, LLM, SPEECH_PREFILL, SPEECH_DECODER, CODEC, LLM_PREFILL)
}
COMPONENTS = tuple(name for name, spec in COMPONENT_SPECS.items() if not spec.optional)
"""Names of those that every bundle has, in their order."""
