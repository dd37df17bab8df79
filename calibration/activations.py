"""Run a bundle in half precision over a short probe, where nothing was recorded: does any layer leave its range?

A checkpoint can be sound in float32 and bfloat16 and leave the range of float16 on the way: its engines would compile,
and every reply would be NaN. Looked at layer by layer, so that a model of any size needs little memory.
"""

from __future__ import annotations

import numpy as np
import tokenizers

from vita_edge.engines.bundle.component_spec import AUDIO, LLM, SPEECH_PREFILL, VISION
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadCheckpoint

from .component_graph import ComponentGraph
from .feeds import PREFIX, Sample, whole_feeds
from .half_range import LARGEST_HALF, tensor_ranges

__all__ = ["check_activations", "probe_sample"]

PROBED = (VISION.name, AUDIO.name, LLM.name, SPEECH_PREFILL.name)
"""Components whose activations grow with depth."""
PROBE_TOKENS = 96
PROBE_FRAMES = 200


def check_activations(bundle: Bundle, *, threads: int = 0) -> None:
    """Run the large components of a bundle once over a short probe.

    Raises:
        BadCheckpoint: activations leave the range of half precision; names the layer, and the way out.
    """
    for name in PROBED:
        graph = ComponentGraph(bundle.components[name].graph)
        feeds = [whole_feeds(graph.inputs, probe_sample(bundle, name))]
        beyond = [tensor for tensor in tensor_ranges(graph, feeds, threads=threads) if tensor.overflows]
        if beyond:
            first = beyond[0]
            raise BadCheckpoint(
                f"The activations of {name} leave half precision, first in {first.layer} ({first.operator}).",
                why=f"Half precision ends at {LARGEST_HALF:g}; {first.not_finite} of its values are NaN or infinite, "
                f"and so is a part of {len(beyond)} tensors: every reply would be NaN.",
                fix=f"Export at --target {bundle.target} --precision fp32, record a few turns with that bundle "
                "(vita-edge record), and calibrate it (vita-edge calibrate): weights take 8 or 4 bits, and "
                "activations stay in float32.",
            )


def probe_sample(bundle: Bundle, component: str) -> Sample:
    """Something to run a component on: a text for the decoders, noise for the encoders."""
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
