"""Attention and rotary position, written once for every part of the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..graph import GraphBuilder
from ..weights import padded_head_dim

__all__ = ["heads_first", "rotary_tables", "scaled_attention"]


def heads_first(g: GraphBuilder, x: str, heads: int, head_dim: int, *, transposed: bool = False) -> str:
    """[batch, n, heads · head_dim] → [batch, heads, n, head_dim] (or [batch, heads, head_dim, n])."""
    split = g.reshape(x, [0, 0, heads, head_dim])
    return g.op("Transpose", split, perm=[0, 2, 3, 1] if transposed else [0, 2, 1, 3])


def scaled_attention(g: GraphBuilder, q: str, k: str, v: str, width: int, scale: float, bias: str | None = None) -> str:
    """softmax(scale · q k + bias) v, every position sees every other one.

    Primitives rather than one operator: on the CPU they are the faster form (docs/lab), and every backend parses them.

    Args:
        q: [batch, heads, n, d]; k: [batch, heads, d, n]; v: [batch, heads, n, d_v]
        width: heads · d_v, the width of the result [batch, n, width]
    """
    scores = g.op("MatMul", g.scale(q, scale), k)
    if bias is not None:
        scores = g.op("Add", scores, bias)
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    return g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, width])


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
