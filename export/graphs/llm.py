"""The language model, written for decoding (spec: language model)."""

from __future__ import annotations

from ..checkpoint import Checkpoint
from ..formats import LinearFormat
from ..graph import GraphBuilder, table
from ..weights import as_is, first_rows, padded_head_dim
from .attention import rotary_tables
from .decoder_layer import after_attention, packed_heads

__all__ = ["cached_attention", "llm_graph", "llm_prefill_graph"]


def llm_graph(
    checkpoint: Checkpoint,
    vocab_size: int,
    linear: LinearFormat,
    head: LinearFormat,
    *,
    first: LinearFormat | None = None,
    name: str = "llm",
) -> GraphBuilder:
    """inputs_embeds float32 [1, tokens, hidden], KV cache, lengths → logits float32 [1, 1, vocab_size].

    Only the last position reaches the head. Rows of the head beyond ``vocab_size`` (ids that the tokenizer does not
    know) are left behind, so that they can never be produced.

    Args:
        first: how the matrices of the first layer are kept, when not like those of the others.
    """
    config, tensor = checkpoint.config.llm, checkpoint.main
    g = GraphBuilder(name, linear, head)
    x = _layers(g, checkpoint, first=first or linear)
    with g.scope("head"):
        last = g.take(x, -1, 2**31, 1)
        y = g.rms_norm(last, as_is(tensor["model.norm.weight"]), config.rms_norm_eps, "norm")
        rows = tensor["model.embed_tokens.weight" if config.tied else "lm_head.weight"]
        logits = g.linear(y, first_rows(rows, vocab_size), None, "lm_head", head=True)
    g.output(logits, "logits", "float32", [1, 1, vocab_size])
    return g


def llm_prefill_graph(checkpoint: Checkpoint, linear: LinearFormat) -> GraphBuilder:
    """inputs_embeds float32 [1, tokens, hidden], KV cache, lengths → nothing but a longer KV cache.

    For all rows of a prompt but the last one, which goes through the decoder's own graph: so neither the head nor the
    last layer beyond its keys and values is needed.
    """
    g = GraphBuilder("llm_prefill", linear)
    _layers(g, checkpoint, first=linear, cache_only=True)
    return g


def _layers(g: GraphBuilder, checkpoint: Checkpoint, *, first: LinearFormat, cache_only: bool = False) -> str:
    config, tensor = checkpoint.config.llm, checkpoint.main
    x = g.input("inputs_embeds", "float32", [1, "tokens", config.hidden_size])
    lengths = [g.input("seqlens_k", "int32", [1]), g.input("total_sequence_length", "int32", [1])]
    cos, sin = rotary_tables(config.max_positions, config.head_dim, config.rope_theta)
    tables = [g.weight(f"rotary.{name}", table(t), learned=False) for name, t in (("cos", cos), ("sin", sin))]
    for i in range(config.layers):
        prefix = f"model.layers.{i}."
        with g.scope(f"layers.{i}"), g.kept_in(g.format if i else first):
            y = g.rms_norm(x, as_is(tensor[f"{prefix}input_layernorm.weight"]), config.rms_norm_eps, "input_norm")
            weight, bias = (packed_heads(tensor, prefix, config.head_dim, part) for part in ("weight", "bias"))
            y = g.linear(y, weight, bias, "attn.qkv")
            y = cached_attention(g, i, y, lengths, tables, config.heads, config.kv_heads, config.head_dim)
            if cache_only and i == config.layers - 1:
                break
            x = after_attention(g, tensor, prefix, x, y, config.head_dim, config.rms_norm_eps)
    return x


def cached_attention(
    g: GraphBuilder,
    layer: int,
    qkv: str,
    lengths: list[str],
    rotary: list[str],
    heads: int,
    kv_heads: int,
    head_dim: int,
) -> str:
    """Causal attention of new positions over the KV cache of ``layer``, which grows in place.

    One operator rotates, appends and attends: with one buffer bound as past and present, nothing is copied.

    Args:
        qkv: [1, tokens, (heads + 2 · kv_heads) · padded head_dim], packed
        lengths: names of the two lengths that the operator asks for
    """
    padded = padded_head_dim(head_dim)
    axes: list[int | str] = [1, kv_heads, "capacity", padded]
    past = [g.input(f"past_key_values.{layer}.{part}", "float32", axes) for part in ("key", "value")]
    present = [f"present.{layer}.{part}" for part in ("key", "value")]
    mixed = f"layers.{layer}/attn.mixed"
    g.node(
        "GroupQueryAttention",
        [qkv, "", "", *past, *lengths, *rotary],
        [mixed, *present],
        domain="com.microsoft",
        num_heads=heads,
        kv_num_heads=kv_heads,
        scale=head_dim**-0.5,
        do_rotary=1,
    )
    for name in present:
        g.output(name, name, "float32", axes)
    return mixed
