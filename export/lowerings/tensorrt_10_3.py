"""For the TensorRT 10.3 of JetPack 6: opset 20 at most, so attention, rotation and RMS norm are taken apart."""

from __future__ import annotations

from dataclasses import dataclass

from ..weights.graph_writer import GraphWriter
from .lowering import CacheWriter, DecoderHeads, EncoderHeads
from .primitives import additive_mask, attention_in_primitives, rotary_weights, row_positions, split_heads

__all__ = ["TensorRt103"]

FLOAT32 = 1
"""ONNX's number of the type."""


@dataclass(frozen=True)
class TensorRt103:
    """All tensors inside in ``floats``, but for the sums of squares."""

    floats: str = "float16"
    target: str = "tensorrt-10.3"
    opset: int = 19
    """The first with scales of half precision."""
    ir_version: int = 9
    joins_products: bool = True
    best_logits: int = 64

    @property
    def stored(self) -> str:
        return self.floats

    def rms_norm(self, g: GraphWriter, x: str, gain: str, eps: float) -> str:
        """Squared and summed in float32: half precision overflows from 256 on."""
        wide = g.op("Cast", x, to=FLOAT32) if g.floats != "float32" else x
        mean = g.op("ReduceMean", g.op("Mul", wide, wide), g.constant([-1]), keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, g.constant(eps, "float32")))
        return str(g.op("Mul", g.inner(g.op("Div", wide, root)), gain))

    def gelu(self, g: GraphWriter, x: str) -> str:
        """x / 2 · (1 + erf(x / √2)): a form that every version knows and fuses."""
        erf = g.op("Erf", g.scale(x, 0.5**0.5))
        return str(g.op("Mul", g.scale(x, 0.5), g.op("Add", erf, g.constant(1.0, g.floats))))

    def attention(self, g: GraphWriter, q: str, k: str, v: str, heads: EncoderHeads, visible: str | None = None) -> str:
        return attention_in_primitives(g, q, k, v, heads, visible)

    def kv_cache(self, g: GraphWriter, heads: DecoderHeads, rows: str) -> CacheWriter:
        return _ConcatenatedCache(g, heads, rows)


class _ConcatenatedCache:
    """The cache is read, lengthened and handed out whole. Queries that share a key are folded into rows, so that keys
    and values are not copied for each of them."""

    def __init__(self, g: GraphWriter, heads: DecoderHeads, rows: str) -> None:
        self._heads = heads
        tables = rotary_weights(g, heads)
        self._past = [
            [
                g.input(f"past_key_values.{i}.{part}", g.floats, [1, heads.kv_heads, "past", heads.padded])
                for part in ("key", "value")
            ]
            for i in range(heads.layers)
        ]
        with g.scope("positions"):
            zero, first = g.constant([0]), g.constant(0)
            past = g.op("Shape", self._past[0][0], start=2, end=3)
            total = g.op("Add", past, g.op("Shape", rows, start=1, end=2))
            positions = row_positions(g, rows, past)
            slots = g.op("Range", first, g.op("Squeeze", total, zero), g.constant(1))
            visible = g.op("LessOrEqual", slots, g.op("Unsqueeze", positions, g.constant([1])))
            self._mask = additive_mask(g, visible)
            self._cos, self._sin = (g.op("Slice", name, past, total, zero) for name in tables)

    def attend(self, g: GraphWriter, layer: int, qkv: str) -> str:
        heads = self._heads
        q, k, v = split_heads(g, qkv, heads)
        q, k = self._rotated(g, g.scale(q, heads.scale)), self._rotated(g, k)
        cache = []
        for part, past, new in zip(("key", "value"), self._past[layer], (k, v)):
            grown = g.op("Concat", past, new, axis=2)
            cache.append(f"present.{layer}.{part}")
            g.output(grown, cache[-1], g.floats, [1, heads.kv_heads, "total", heads.padded])
        key, value = cache
        shared = heads.heads // heads.kv_heads
        folded = g.reshape(q, [1, heads.kv_heads, -1, heads.padded])  # head by head, all tokens of each
        scores = g.op("MatMul", folded, g.op("Transpose", key, perm=[0, 1, 3, 2]))
        if shared > 1:  # the mask is the same for all that share a key
            tokens, total = g.op("Shape", qkv, start=1, end=2), g.op("Shape", key, start=2, end=3)
            apart = g.op("Concat", g.constant([heads.kv_heads, shared]), tokens, total, axis=0)
            together = g.op("Concat", g.constant([1, heads.kv_heads, -1]), total, axis=0)
            masked = g.op("Add", g.op("Reshape", scores, apart), self._mask)
            scores = g.op("Reshape", masked, together)
        else:
            scores = g.op("Add", scores, self._mask)
        mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
        mixed = g.op("Reshape", mixed, self._unfolded(g, qkv))
        return g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, heads.heads * heads.padded])

    def _unfolded(self, g: GraphWriter, qkv: str) -> str:
        """[1, heads, tokens, d]"""
        tokens = g.op("Shape", qkv, start=1, end=2)
        return str(g.op("Concat", g.constant([1, self._heads.heads]), tokens, g.constant([self._heads.padded]), axis=0))

    def _rotated(self, g: GraphWriter, x: str) -> str:
        """Rotate the two halves of every head: x [1, heads, tokens, d]."""
        half = self._heads.padded // 2
        first, second = g.take(x, 0, half, -1), g.take(x, half, 2 * half, -1)
        left = g.op("Sub", g.op("Mul", first, self._cos), g.op("Mul", second, self._sin))
        right = g.op("Add", g.op("Mul", second, self._cos), g.op("Mul", first, self._sin))
        return str(g.op("Concat", left, right, axis=-1))
