"""How large the activations of a graph become, and whether half precision holds them.

A checkpoint can be sound in float32 and bfloat16 and leave the range of float16 on the way: its engines would compile,
and every reply would be no number. Looked at layer by layer, so that a model of any size needs little memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tokenizers

from vita_edge.engines.bundle.component_spec import AUDIO, LLM, SPEECH_PREFILL, VISION
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadCheckpoint
from vita_edge.engines.tensors import Array

from .component_graph import ComponentGraph
from .feeds import PREFIX, Sample, whole_feeds
from .walk import Watcher, walk

__all__ = ["LARGEST_HALF", "ActivationPeak", "activation_peaks", "check_activations", "probe_sample"]

LARGEST_HALF = 65504.0
PROBED = (VISION.name, AUDIO.name, LLM.name, SPEECH_PREFILL.name)
"""Components whose activations grow with depth; the others are small, and were never seen to."""
PROBE_TOKENS = 96
PROBE_FRAMES = 200
_FIX = (
    "Export at --target {target} --precision fp32, record a few turns with that bundle (vita-edge record), and "
    "calibrate it (vita-edge calibrate): weights take 8 or 4 bits, activations stay in float32."
)


@dataclass(frozen=True)
class ActivationPeak:
    """The largest magnitude of one inner tensor over all samples."""

    segment: str
    """The layer that it belongs to."""
    tensor: str
    magnitude: float
    """Infinite where a value was no number."""


def activation_peaks(graph: ComponentGraph, feeds: Sequence[Sample], *, threads: int = 0) -> list[ActivationPeak]:
    """Every inner tensor of floats and its largest magnitude, in the order of the graph.

    Args:
        feeds: what the graph takes for each sample, as :func:`~.feeds.whole_feeds` makes it.

    Raises:
        InferenceFailed: the backend refuses the graph or the feeds.
    """
    seen: dict[str, float] = {}

    def watcher(name: str) -> Watcher:
        def look(array: Array, number: int) -> None:
            if array.dtype.kind == "f" and array.size:
                largest = float(np.abs(array, dtype=array.dtype).max())
                seen[name] = max(seen.get(name, 0.0), largest if np.isfinite(largest) else np.inf)

        return look

    watched = {name: watcher(name) for node in graph.nodes for name in node.output if name}
    peaks: list[ActivationPeak] = []
    for segment in walk(graph, feeds, watched, threads=threads):
        names = [name for i in range(segment.start, segment.stop) for name in graph.nodes[i].output]
        peaks += [ActivationPeak(segment.name, name, seen[name]) for name in names if name in seen]
    return peaks


def check_activations(bundle: Bundle, *, threads: int = 0) -> None:
    """Run the large components of a bundle in half precision once over a short probe.

    Raises:
        BadCheckpoint: activations leave the range of half precision; names the layer, and the way out.
    """
    for name in PROBED:
        graph = ComponentGraph(bundle.components[name].graph)
        feeds = [whole_feeds(graph.inputs, probe_sample(bundle, name))]
        beyond = list(_beyond(activation_peaks(graph, feeds, threads=threads)))
        if beyond:
            first = beyond[0]
            raise BadCheckpoint(
                f"The activations of {name} leave half precision, first in {first.segment or first.tensor}.",
                why=f"{first.tensor} {_size(first)}, half precision ends at {LARGEST_HALF:g}, and {len(beyond)} "
                "tensors are beyond: every reply would be no number.",
                fix=_FIX.format(target=bundle.target),
            )


def probe_sample(bundle: Bundle, component: str) -> Sample:
    """Something to run a component on where nothing was recorded: a text for the decoders, noise for the encoders."""
    random = np.random.default_rng(0)
    if component == VISION.name:
        size = bundle.model.vision.tile_size
        return {"pixel_values": random.uniform(-2, 2.5, (1, 3, size, size)).astype(np.float32)}
    if component == AUDIO.name:
        return {"fbank": random.normal(12, 3, (1, PROBE_FRAMES, bundle.model.audio.mel_bins)).astype(np.float32)}
    tokenizer = tokenizers.Tokenizer.from_str(bundle.tokenizer_file.read_text("utf-8"))
    ids = tokenizer.encode(bundle.prompts["command_line"]["lang"], add_special_tokens=False).ids
    rows = bundle.embedding_table().rows([bundle.model.tokens.im_start, *ids[: PROBE_TOKENS - 1]])
    if component == LLM.name:
        return {"inputs_embeds": rows[None]}
    return {PREFIX: rows.reshape(1, -1, bundle.model.speech.width)}


def _beyond(peaks: Sequence[ActivationPeak]) -> Iterator[ActivationPeak]:
    """Peaks beyond half precision; a mask of −∞ comes from a constant and is none."""
    return (peak for peak in peaks if peak.magnitude > LARGEST_HALF)


def _size(peak: ActivationPeak) -> str:
    return f"reaches {peak.magnitude:g}" if np.isfinite(peak.magnitude) else "becomes infinite or no number"
