"""The language model, written for decoding (spec: language model)."""

from __future__ import annotations

from vita_edge.engines.bundle.component_spec import LLM, LLM_PREFILL

from ..checkpoint.open_checkpoint import Checkpoint
from ..lowerings.lowering import DecoderHeads, Lowering
from ..weights.formats import LinearFormat
from ..weights.weight import as_is, first_rows
from .decoder_layer import after_attention, hand_out, packed_heads
from .graph_builder import GraphBuilder

__all__ = ["llm_graph", "llm_prefill_graph"]


def llm_graph(
    checkpoint: Checkpoint,
    vocab_size: int,
    linear: LinearFormat,
    head: LinearFormat,
    *,
    first: LinearFormat | None = None,
    lowering: Lowering | None = None,
) -> GraphBuilder:
    """inputs_embeds float32 [1, tokens, hidden], KV cache, lengths → logits float32 [1, 1, vocab_size].

    Only the last position reaches the head. Rows of the head beyond ``vocab_size`` (ids that the tokenizer does not
    know) are left behind, so that they can never be produced.

    Args:
        first: how the matrices of the first layer are kept, when not like those of the others.
    """
    config, tensor = checkpoint.config.llm, checkpoint.main
    g = GraphBuilder(LLM.name, linear, head, lowering)
    x = _layers(g, checkpoint, first=first or linear)
    with g.scope("head"):
        last = g.take(x, -1, 2**31, 1)
        y = g.rms_norm(last, as_is(tensor["model.norm.weight"]), config.rms_norm_eps, "norm")
        rows = tensor["model.embed_tokens.weight" if config.tied else "lm_head.weight"]
        logits = g.linear(y, first_rows(rows, vocab_size), None, "lm_head", head=True)
    hand_out(g, logits, vocab_size)
    return g


def llm_prefill_graph(checkpoint: Checkpoint, linear: LinearFormat) -> GraphBuilder:
    """inputs_embeds float32 [1, tokens, hidden], KV cache, lengths → nothing but a longer KV cache.

    For all rows of a prompt but the last one, which goes through the decoder's own graph: so neither the head nor the
    last layer beyond its keys and values is needed.
    """
    g = GraphBuilder(LLM_PREFILL.name, linear)
    _layers(g, checkpoint, first=linear, cache_only=True)
    return g


def _layers(g: GraphBuilder, checkpoint: Checkpoint, *, first: LinearFormat, cache_only: bool = False) -> str:
    config, tensor = checkpoint.config.llm, checkpoint.main
    x = g.inner(g.input(*LLM.input("inputs_embeds", hidden_size=config.hidden_size)))
    heads = DecoderHeads(
        config.layers, config.heads, config.kv_heads, config.head_dim, config.max_positions, config.rope_theta
    )
    cache = g.lowering.kv_cache(g, heads, x)
    for i in range(config.layers):
        prefix = f"model.layers.{i}."
        with g.scope(f"layers.{i}"), g.stored_in(g.format if i else first):
            weight, bias = (packed_heads(tensor, prefix, config.head_dim, part) for part in ("weight", "bias"))
            gain, (weight,) = g.balanced(as_is(tensor[f"{prefix}input_layernorm.weight"]), weight)
            y = g.rms_norm(x, gain, config.rms_norm_eps, "input_norm")
            y = g.linear(y, weight, bias, "attn.qkv")
            y = cache.attend(g, i, y)
            if cache_only and i == config.layers - 1:
                break
            x = after_attention(g, tensor, prefix, x, y, config.head_dim, config.rms_norm_eps)
    return x
