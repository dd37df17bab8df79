"""How much memory a bundle will take: a prediction from its manifest, for `vita-edge inspect` and for planning."""

from __future__ import annotations

from vita_edge.engines.bundle.format import Bundle, Component
from vita_edge.runtime.session.opened_model import CACHE_VALUE_BYTES, session_cache_bytes

__all__ = ["bytes_on_disk", "footprint", "resident_weights"]

WIDENED = 2.3
"""Resident bytes for each byte of an fp16 component's file: its weights become float32 when it is opened. Measured on
the practice model of size half, onnxruntime on x86-64: 2.2 to 2.6 a component, 2.3 together. In quantised components
convolutions alone are in half precision, too little of them to count."""


def bytes_on_disk(component: Component) -> int:
    """Bytes of a component's weights in their files."""
    return sum(file.stat().st_size for file in component.weights)


def resident_weights(component: Component) -> int:
    """Bytes of a component's weights once it has run, on the CPU."""
    return int(bytes_on_disk(component) * (WIDENED if component.precision == "fp16" else 1))


def footprint(bundle: Bundle) -> dict[str, int]:
    """Bytes at run time, by what they are for.

    Weights are resident in full once every component has run, those in half precision as float32 (and while such a
    component is opened, about four times its file is taken for a moment). The KV cache is taken as positions are
    written, so it is given for a whole context. The token table is mapped: only rows in use are resident, so it does
    not count.
    """
    llm, speech = bundle.model.llm, bundle.model.speech
    weights = sum(map(resident_weights, bundle.components.values()))
    per_token = 2 * llm.layers * llm.kv_heads * llm.head_dim * CACHE_VALUE_BYTES
    speech_per_position = 2 * speech.layers * speech.heads * speech.head_dim * CACHE_VALUE_BYTES
    return {
        "weights": weights,
        "kv_cache_per_1000_tokens": 1000 * per_token,
        "kv_cache_whole_prompt": llm.prompt_limit_tokens * per_token,
        "speech_kv_cache": speech.context_tokens * speech_per_position,
        "another_session": session_cache_bytes(bundle.model, llm.prompt_limit_tokens),
    }
