"""What the layers of the language model and of the speech decoder have in common."""

from __future__ import annotations

from collections.abc import Mapping

from ..checkpoint.tensor import LazyTensor
from ..weights.weight import Weight, as_is, head_padded, head_padded_columns, joined_rows
from .graph_builder import GraphBuilder

__all__ = ["after_attention", "hand_out", "packed_heads"]


def packed_heads(tensor: Mapping[str, LazyTensor], prefix: str, head_dim: int, part: str = "weight") -> Weight:
    """q, k and v in one matrix, heads padded for the attention operator."""
    q, k, v = (as_is(tensor[f"{prefix}self_attn.{name}_proj.{part}"]) for name in "qkv")
    return joined_rows(
        head_padded(q, head_dim, rotary=True),
        head_padded(k, head_dim, rotary=True),
        head_padded(v, head_dim, rotary=False),
    )


def after_attention(
    g: GraphBuilder, tensor: Mapping[str, LazyTensor], prefix: str, x: str, mixed: str, head_dim: int, eps: float
) -> str:
    """The rest of a layer: x + output projection of ``mixed``, then the gated MLP."""
    out = head_padded_columns(as_is(tensor[f"{prefix}self_attn.o_proj.weight"]), head_dim)
    x = g.op("Add", x, g.linear(mixed, out, None, "attn.out"))
    both = [as_is(tensor[f"{prefix}mlp.{part}_proj.weight"]) for part in ("gate", "up")]
    gain, both = g.balanced(as_is(tensor[f"{prefix}post_attention_layernorm.weight"]), *both)
    y = g.rms_norm(x, gain, eps, "post_norm")
    gate, up = g.linears(y, dict(zip(("mlp.gate", "mlp.up"), both)), "mlp.gate_up")
    y = g.op("Mul", g.op("Mul", gate, g.op("Sigmoid", gate)), up)
    return g.op("Add", x, g.linear(y, as_is(tensor[f"{prefix}mlp.down_proj.weight"]), None, "mlp.down"))


def hand_out(g: GraphBuilder, logits: str, size: int) -> None:
    """``logits`` float32 [1, 1, size]; and, where the dialect wants them, the best of them: ``top_values`` float32 and
    ``top_ids`` int64 [1, 1, k], so that a token is chosen without a copy of all."""
    g.result(logits, "logits", [1, 1, size])
    if best := min(g.lowering.best_logits, size):
        values, ids = g.op("TopK", "logits", g.constant([best]), axis=-1, largest=1, sorted=1, outputs=2)
        g.output(values, "top_values", "float32", [1, 1, best])
        g.output(ids, "top_ids", "int64", [1, 1, best])
