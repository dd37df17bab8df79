"""For ONNX Runtime: one operator holds the attention of a decoder, and encoders attend in primitives."""

from __future__ import annotations

from dataclasses import dataclass

from ..weights.graph_writer import GraphWriter
from .lowering import CacheWriter, DecoderHeads, EncoderHeads
from .primitives import attention_in_primitives, rotary_weights

__all__ = ["OnnxRuntime"]


@dataclass(frozen=True)
class OnnxRuntime:
    """float32 everywhere but in the matrices, and in what is ``stored``."""

    target: str = "onnxruntime"
    opset: int = 23
    """The first with RMSNormalization; ONNX Runtime has its kernels since 1.23."""
    ir_version: int = 11
    floats: str = "float32"
    stored: str = "float32"
    joins_products: bool = False
    best_logits: int = 0

    def rms_norm(self, g: GraphWriter, x: str, gain: str, eps: float) -> str:
        return str(g.op("RMSNormalization", x, gain, axis=-1, epsilon=eps))

    def gelu(self, g: GraphWriter, x: str) -> str:
        return str(g.op("Gelu", x))

    def attention(self, g: GraphWriter, q: str, k: str, v: str, heads: EncoderHeads, visible: str | None = None) -> str:
        """Primitives rather than one operator: on the CPU they are the faster form (docs/lab)."""
        return attention_in_primitives(g, q, k, v, heads, visible)

    def kv_cache(self, g: GraphWriter, heads: DecoderHeads, rows: str) -> CacheWriter:
        return _GroupQueryCache(g, heads)


class _GroupQueryCache:
    """One operator rotates, appends and attends: with one buffer bound as past and present, nothing is copied."""

    def __init__(self, g: GraphWriter, heads: DecoderHeads) -> None:
        self._heads = heads
        self._lengths = [g.input("seqlens_k", "int32", [1]), g.input("total_sequence_length", "int32", [1])]
        self._rotary = rotary_weights(g, heads)

    def attend(self, g: GraphWriter, layer: int, qkv: str) -> str:
        heads = self._heads
        axes: list[int | str] = [1, heads.kv_heads, "capacity", heads.padded]
        past = [g.input(f"past_key_values.{layer}.{part}", "float32", axes) for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        mixed = f"layers.{layer}/attn.mixed"
        g.node(
            "GroupQueryAttention",
            [qkv, "", "", *past, *self._lengths, *self._rotary],
            [mixed, *present],
            domain="com.microsoft",
            num_heads=heads.heads,
            kv_num_heads=heads.kv_heads,
            scale=heads.scale,
            do_rotary=1,
        )
        for name in present:
            g.output(name, name, "float32", axes)
        return mixed
