"""The speech decoder: sentence embeddings to codes (spec: from sentence to codes).

Two graphs over one KV cache. The prefix (bos and the text) is bidirectional and computed once for a sentence; then
codes are decoded one by one.
"""

from __future__ import annotations

from vita_edge.engines.bundle.component_spec import SPEECH_DECODER, SPEECH_PREFILL

from ..checkpoint.config import CheckpointConfig
from ..checkpoint.open_checkpoint import Checkpoint
from ..lowerings.lowering import DecoderHeads, EncoderHeads, Lowering
from ..lowerings.primitives import heads_first, rotary_weights
from ..weights.formats import LinearFormat
from ..weights.weight import as_is, computed, padded_head_dim
from .decoder_layer import after_attention, hand_out, packed_heads
from .graph_builder import GraphBuilder

__all__ = ["speech_decoder_graph", "speech_prefill_graph"]

EPS, THETA = 1e-6, 10_000.0
FAR = 2**31


def speech_prefill_graph(
    checkpoint: Checkpoint, linear: LinearFormat, lowering: Lowering | None = None
) -> GraphBuilder:
    """text_embeds float32 [1, vectors, width] → present.{layer}.key/value [1, heads, vectors + 1, head_dim], in the
    type of the cache."""
    config, tensor = checkpoint.config.speech, checkpoint.speech
    padded = padded_head_dim(config.head_dim)
    g = GraphBuilder(SPEECH_PREFILL.name, linear, lowering=lowering)
    x = g.inner(g.input(*SPEECH_PREFILL.input("text_embeds", width=config.width)))
    rotary = rotary_weights(g, _heads(checkpoint.config))

    with g.scope("pre_nn"):
        for i in range(config.pre_layers):
            with g.scope(f"layers.{i}"):
                x = _prefix_layer(g, checkpoint, x, f"layers_pre_nn.{i}.", rotary)[0]
    g.tap(g.op("Identity", x), "pre_nn")

    embedding = tensor["embedding.weight"]
    bos = computed((1, 1, config.width), lambda: embedding.rows(config.codes, config.codes + 1)[None])
    x = g.op("Concat", g.weight("bos", bos), "pre_nn", axis=1)
    for i in range(config.layers):
        with g.scope(f"layers.{i}"):
            last = i == config.layers - 1  # of the last layer only keys and values are of use
            x, k, v = _prefix_layer(g, checkpoint, x, f"layers.{i}.", rotary, cache_only=last)
        for part, value in (("key", k), ("value", v)):
            g.output(
                heads_first(g, value), f"present.{i}.{part}", g.floats, [1, config.heads, "vectors_and_bos", padded]
            )
    return g


def speech_decoder_graph(
    checkpoint: Checkpoint, linear: LinearFormat, head: LinearFormat, lowering: Lowering | None = None
) -> GraphBuilder:
    """code int64 [1, tokens], KV cache, lengths → logits float32 [1, 1, codes + 4] of the last code."""
    config, tensor = checkpoint.config.speech, checkpoint.speech
    g = GraphBuilder(SPEECH_DECODER.name, linear, head, lowering)
    code = g.input(*SPEECH_DECODER.input("code"))
    cache = g.lowering.kv_cache(g, _heads(checkpoint.config), code)
    x = g.looked_up("embedding", as_is(tensor["embedding.weight"]), code)
    for i in range(config.layers):
        prefix = f"layers.{i}."
        with g.scope(f"layers.{i}"):
            qkv = packed_heads(tensor, prefix, config.head_dim)
            gain, (qkv,) = g.balanced(as_is(tensor[f"{prefix}input_layernorm.weight"]), qkv)
            y = g.linear(g.rms_norm(x, gain, EPS, "input_norm"), qkv, None, "attn.qkv")
            y = cache.attend(g, i, y)
            x = after_attention(g, tensor, prefix, x, y, config.head_dim, EPS)
    y = g.rms_norm(g.take(x, -1, FAR, 1), as_is(tensor["norm.weight"]), EPS, "norm")
    logits = g.linear(y, as_is(tensor["out_fnn.weight"]), as_is(tensor["out_fnn.bias"]), "out", head=True)
    hand_out(g, logits, config.codes + 4)
    return g


def _heads(config: CheckpointConfig) -> DecoderHeads:
    speech = config.speech
    return DecoderHeads(speech.layers, speech.heads, speech.heads, speech.head_dim, config.speech_context, THETA)


def _prefix_layer(
    g: GraphBuilder, checkpoint: Checkpoint, x: str, prefix: str, rotary: list[str], *, cache_only: bool = False
) -> tuple[str, str, str]:
    """One Llama layer in which every position sees every other; returns its output, rotated keys, and values."""
    config, tensor = checkpoint.config.speech, checkpoint.speech
    heads, padded = config.heads, padded_head_dim(config.head_dim)
    gain, (packed,) = g.balanced(
        as_is(tensor[f"{prefix}input_layernorm.weight"]), packed_heads(tensor, prefix, config.head_dim)
    )
    qkv = g.linear(g.rms_norm(x, gain, EPS, "input_norm"), packed, None, "attn.qkv")
    q, k, v = g.op("Split", g.reshape(qkv, [0, 0, 3 * heads, padded]), axis=2, num_outputs=3, outputs=3)
    length = g.op("Shape", x, start=1, end=2)
    first = [g.op("Slice", name, g.constant([0]), length, g.constant([0])) for name in rotary]
    cos, sin = (g.op("Unsqueeze", rows, g.constant([1])) for rows in first)
    k = _rotated(g, k, cos, sin, padded)
    if cache_only:
        return x, k, v
    q = _rotated(g, q, cos, sin, padded)
    y = g.lowering.attention(g, q, k, v, EncoderHeads(heads, padded, padded, config.head_dim**-0.5))
    return after_attention(g, tensor, prefix, x, y, config.head_dim, EPS), k, v


def _rotated(g: GraphBuilder, x: str, cos: str, sin: str, head_dim: int) -> str:
    """Rotate the two halves of every head: x [1, n, heads, head_dim]; cos, sin [n, 1, head_dim / 2]."""
    first, second = g.take(x, 0, head_dim // 2, -1), g.take(x, head_dim // 2, FAR, -1)
    left = g.op("Sub", g.op("Mul", first, cos), g.op("Mul", second, sin))
    right = g.op("Add", g.op("Mul", second, cos), g.op("Mul", first, sin))
    return g.op("Concat", left, right, axis=-1)
