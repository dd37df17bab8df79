"""For TensorRT from 10.15 on: the cache grows in place by TensorScatter, and one operator attends, which it fuses."""

from __future__ import annotations

from dataclasses import dataclass

from ..weights.graph_writer import GraphWriter
from .lowering import CacheWriter, DecoderHeads, EncoderHeads
from .primitives import heads_first, rotary_weights, row_positions, split_heads

__all__ = ["TensorRt"]


@dataclass(frozen=True)
class TensorRt:
    """All tensors inside in ``floats``: TensorRT takes types as the graph has them."""

    floats: str = "float16"
    target: str = "tensorrt"
    opset: int = 24
    """The first with TensorScatter."""
    ir_version: int = 11
    joins_products: bool = True
    best_logits: int = 64

    @property
    def stored(self) -> str:
        return self.floats

    def rms_norm(self, g: GraphWriter, x: str, gain: str, eps: float) -> str:
        """One operator, which squares and sums in float32 (its ``stash_type``)."""
        return str(g.op("RMSNormalization", x, gain, axis=-1, epsilon=eps))

    def gelu(self, g: GraphWriter, x: str) -> str:
        return str(g.op("Gelu", x))

    def attention(self, g: GraphWriter, q: str, k: str, v: str, heads: EncoderHeads, visible: str | None = None) -> str:
        """One operator, whose values have to be as wide as its queries: narrower ones are filled up with zeros."""
        missing = heads.width - heads.value_width
        if missing:
            v = g.op("Pad", v, g.constant([0, 0, 0, 0, 0, 0, 0, missing]))
        q, k, v = (heads_first(g, x) for x in (q, k, v))
        mixed = g.op("Attention", q, k, v, *([visible] if visible else []), scale=heads.scale)
        if missing:
            mixed = g.take(mixed, 0, heads.value_width, 3)
        return g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, heads.heads * heads.value_width])

    def kv_cache(self, g: GraphWriter, heads: DecoderHeads, rows: str) -> CacheWriter:
        return _ScatteredCache(g, heads, rows)


class _ScatteredCache:
    """New keys and values are scattered into a buffer of the whole capacity; a mask hides what is not written yet.

    The buffer has to hold finite numbers from the start: a masked value is multiplied by zero. Attention goes over as
    many positions as the input ``seen`` is long (its values are not read). Where that is all of them, a step reads the
    buffer where it lies; where it varies, a prompt copies what it sees, and no more than once for heads that share it.
    """

    def __init__(self, g: GraphWriter, heads: DecoderHeads, rows: str) -> None:
        self._heads = heads
        self._past_length = g.input("past_length", "int64", [1])
        self._rotary = rotary_weights(g, heads)
        self._axes: list[int | str] = [1, heads.kv_heads, "capacity", heads.padded]
        self._past = [
            [g.input(f"past_key_values.{i}.{part}", g.floats, self._axes) for part in ("key", "value")]
            for i in range(heads.layers)
        ]
        with g.scope("positions"):
            positions = row_positions(g, rows, self._past_length)
            self._position_ids = g.op("Unsqueeze", positions, g.constant([0]))
            seen = g.input("seen", "bool", ["seen"])
            self._end = g.op("Shape", seen, start=0, end=1)
            slots = g.op("Range", g.constant(0), g.length(seen, 0), g.constant(1))
            self._visible = g.op("LessOrEqual", slots, g.op("Unsqueeze", positions, g.constant([1])))

    def attend(self, g: GraphWriter, layer: int, qkv: str) -> str:
        heads = self._heads
        q, k, v = split_heads(g, qkv, heads)
        q, k = (g.op("RotaryEmbedding", x, *self._rotary, self._position_ids) for x in (q, k))
        cache = []
        for part, past, new in zip(("key", "value"), self._past[layer], (k, v)):
            grown = g.op("TensorScatter", past, new, self._past_length, axis=-2)
            cache.append(f"present.{layer}.{part}")
            g.output(grown, cache[-1], g.floats, self._axes)
        seen = [g.op("Slice", part, g.constant([0]), self._end, g.constant([2])) for part in cache]
        mixed = g.op("Attention", q, *seen, self._visible, scale=heads.scale)
        return g.reshape(g.op("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, heads.heads * heads.padded])
