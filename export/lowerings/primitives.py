"""Pieces that several dialects write alike: attention in primitives, rotary tables, masks, splits of packed heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..weights.graph_writer import GraphWriter
from ..weights.weight import computed, padded_head_dim
from .lowering import DecoderHeads, EncoderHeads

__all__ = [
    "MASKED",
    "additive_mask",
    "attention_in_primitives",
    "heads_first",
    "rotary_tables",
    "rotary_weights",
    "row_positions",
    "split_heads",
]

MASKED = -65504.0
"""What the reference adds to a score that may not be seen: the least number of half precision."""


def attention_in_primitives(g: GraphWriter, q: str, k: str, v: str, heads: EncoderHeads, visible: str | None) -> str:
    """Two products and a softmax; see :meth:`..dialect.Dialect.attention`."""
    q, v = heads_first(g, q), heads_first(g, v)
    scores = g.op("MatMul", g.scale(q, heads.scale), g.op("Transpose", k, perm=[0, 2, 3, 1]))
    if visible is not None:
        scores = g.op("Add", scores, additive_mask(g, visible))
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    return g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, heads.heads * heads.value_width])


def heads_first(g: GraphWriter, x: str) -> str:
    """[batch, n, heads, d] → [batch, heads, n, d]"""
    return g.remembered("heads_first", x, lambda: g.op("Transpose", x, perm=[0, 2, 1, 3]))


def additive_mask(g: GraphWriter, visible: str) -> str:
    """0 where ``visible``, MASKED elsewhere."""
    return g.remembered(
        "additive",
        visible,
        lambda: g.op("Where", visible, g.constant(0.0, g.floats), g.constant(MASKED, g.floats)),
    )


def rotary_tables(positions: int, head_dim: int, theta: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin of position · theta^(-2i / head_dim): float32 [positions, padded / 2] each.

    In float32 from the frequencies on, as the reference computes them: at position 6000 a more exact table would
    differ from what the model was trained with by more than it gains. Padding dimensions are not rotated.
    """
    half, padded_half = head_dim // 2, padded_head_dim(head_dim) // 2
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequency = (1.0 / np.power(np.float32(theta), exponent)).astype(np.float32)
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequency
    cos = np.ones((positions, padded_half), np.float32)
    sin = np.zeros((positions, padded_half), np.float32)
    cos[:, :half], sin[:, :half] = np.cos(angle), np.sin(angle)
    return cos, sin


def rotary_weights(g: GraphWriter, heads: DecoderHeads) -> list[str]:
    """The two tables of a decoder as weights ``rotary.cos`` and ``rotary.sin``."""
    cos, sin = rotary_tables(heads.positions, heads.head_dim, heads.theta)
    return [
        g.weight("rotary.cos", computed(cos.shape, lambda: cos), learned=False),
        g.weight("rotary.sin", computed(sin.shape, lambda: sin), learned=False),
    ]


def row_positions(g: GraphWriter, rows: str, past: str) -> str:
    """Positions of the new tokens: int64 [tokens], ``past`` (int64 [1]) being the first."""
    tokens = g.length(rows, 1)
    return str(g.op("Add", g.op("Range", g.constant(0), tokens, g.constant(1)), past))


def split_heads(g: GraphWriter, qkv: str, heads: DecoderHeads) -> tuple[str, str, str]:
    """[1, tokens, packed] → q [1, heads, tokens, d], k and v [1, kv_heads, tokens, d]."""
    sizes = [heads.heads, heads.kv_heads, heads.kv_heads]
    split = g.reshape(qkv, [0, 0, sum(sizes), heads.padded])
    q, k, v = g.op("Split", split, g.constant(sizes), axis=2, outputs=3)
    return heads_first(g, q), heads_first(g, k), heads_first(g, v)
