"""Look for what half precision cannot hold: every tensor of every graph, on the inputs of a recording."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from vita_edge.calibration.component_graph import ComponentGraph
from vita_edge.calibration.feeds import Sample, whole_feeds
from vita_edge.calibration.half_range import LARGEST_HALF, TensorRange, tensor_ranges
from vita_edge.calibration.walk import run_graph
from vita_edge.engines.bundle.component_spec import COMPONENTS, SPEECH_PREFILL
from vita_edge.engines.bundle.format import Bundle

from .parity import Check, GoldenFolder

__all__ = ["HalfPrecision", "half_precision"]

MAX_SAMPLES = 3
"""Of each component: a tensor that overflows mostly does so on any input."""


@dataclass(frozen=True)
class HalfPrecision:
    """One component, against the range of half precision."""

    component: str
    precision: str
    tensors: int
    in_half: int
    """Tensors that the graph holds in half precision."""
    largest: TensorRange
    overflows: tuple[TensorRange, ...]
    """Tensors that lose values, in the order of the graph: the first is the cause."""
    held_wide: tuple[TensorRange, ...]
    """Tensors beyond the range of half precision, which the graph holds in float32."""

    @property
    def check(self) -> Check:
        """Fails where values are lost."""
        reported = self.reported
        return Check("half precision", self.component, not self.overflows, detail=reported)

    @property
    def reported(self) -> str:
        """In one line."""
        if self.overflows:
            first = self.overflows[0]
            return (
                f"{first.layer} ({first.operator}, {first.dtype}) is the first of {len(self.overflows)} tensors that"
                f" overflow: {first.not_finite:,} values are NaN or infinite"
            )
        if self.held_wide:
            first = self.held_wide[0]
            reported = (
                f"{len(self.held_wide)} tensors beyond half precision are held in float32, the first {first.layer}"
            )
            return f"{reported}: {first.amax:.3g}"
        share = self.largest.amax / LARGEST_HALF
        return f"at most {self.largest.amax:.3g}, {share:.1%} of what half precision holds ({self.largest.layer})"

    def to_json(self) -> dict[str, object]:
        def named(tensor: TensorRange) -> dict[str, object]:
            return {"layer": tensor.layer, "operator": tensor.operator, "dtype": tensor.dtype, "largest": tensor.amax}

        return {
            "component": self.component,
            "precision": self.precision,
            "tensors": self.tensors,
            "in_half": self.in_half,
            "largest": named(self.largest),
            "overflows": [{**named(tensor), "not_finite": tensor.not_finite} for tensor in self.overflows],
            "held_wide": [named(tensor) for tensor in self.held_wide],
        }


def half_precision(
    bundle: Bundle,
    golden: GoldenFolder,
    *,
    components: Collection[str] = COMPONENTS,
    threads: int = 0,
    progress: Callable[[str], object] = lambda _: None,
) -> Iterator[HalfPrecision]:
    """Run the graphs of ``bundle`` layer by layer on what was recorded, and look at all tensors.

    Components that the recording holds nothing for are left out.

    Raises:
        BadBundle: a graph cannot be read.
        InferenceFailed: the processor cannot run it.
    """
    feeds = _feeds(golden, bundle)
    prefill = ComponentGraph(bundle.components[SPEECH_PREFILL.name].graph)
    for name in [name for name in COMPONENTS if name in components and feeds[name]]:
        progress(f"half precision: {name}")
        graph = ComponentGraph(bundle.components[name].graph)
        samples = feeds[name][:MAX_SAMPLES]
        prefixes: list[Sample] = []
        if name == "speech_decoder":
            prefixes = run_graph(
                prefill, [whole_feeds(prefill.inputs, s) for s in feeds[SPEECH_PREFILL.name]][:MAX_SAMPLES]
            )
        whole = [whole_feeds(graph.inputs, s, prefixes[i] if prefixes else None) for i, s in enumerate(samples)]
        yield _summed_up(name, bundle, tensor_ranges(graph, whole, threads=threads))


def _summed_up(name: str, bundle: Bundle, tensors: list[TensorRange]) -> HalfPrecision:
    return HalfPrecision(
        component=name,
        precision=bundle.components[name].precision,
        tensors=len(tensors),
        in_half=sum(tensor.dtype == "float16" for tensor in tensors),
        largest=max(tensors, key=lambda tensor: tensor.amax),
        overflows=tuple(tensor for tensor in tensors if tensor.overflows),
        held_wide=tuple(tensor for tensor in tensors if tensor.beyond_half and not tensor.overflows),
    )


def _feeds(golden: GoldenFolder, bundle: Bundle) -> dict[str, list[Sample]]:
    """What each graph takes, from the arrays of the stage before it."""

    def samples(file: str, kind: str, feed: str) -> list[Sample]:
        return [{feed: golden.peek(file, f"{name}.{kind}")[None]} for name in golden.names(file, kind)]

    streams, sos = bundle.model.codec.streams, bundle.model.speech.sos
    sentences = golden.names("tts.npz", "hidden")
    codes = [golden.peek("tts.npz", f"{name}.codes").astype(np.int64) for name in sentences]
    frames = [array[None] for array in codes if array.size and streams == 1]
    if (fixed := golden.get("tts.npz", "fixed.codes")) is not None:
        fixed = fixed.reshape(1, -1) if fixed.ndim == 1 else fixed if fixed.shape[0] == streams else fixed.T
        frames.insert(0, np.ascontiguousarray(fixed, np.int64))
    pixels = [golden.peek("vision.npz", f"{name}.pixels")[:1] for name in golden.names("vision.npz", "pixels")]
    prompts = samples("llm.npz", "embeds", "inputs_embeds")
    return {
        "audio": samples("audio.npz", "fbank", "fbank"),
        "vision": [{"pixel_values": tiles} for tiles in pixels],
        "llm": sorted(prompts, key=lambda sample: -sample["inputs_embeds"].shape[1]),
        SPEECH_PREFILL.name: samples("tts.npz", "hidden", "text_embeds"),
        "speech_decoder": [{"code": np.array([[sos, *array.tolist()]], np.int64)} for array in codes],
        "codec": [{"codes": array} for array in frames],
    }
