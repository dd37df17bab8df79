"""What a graph owes to the backend that will run it: the version of the operators, the type of numbers inside, and the
few pieces of arithmetic that backends want written in their own way.

The graphs (:mod:`.graphs`) say what is computed; a dialect says with which nodes (docs/decisions/0018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..weights.graph_writer import GraphWriter
from ..weights.weight import padded_head_dim

__all__ = ["CacheWriter", "DecoderHeads", "EncoderHeads", "Lowering"]


@dataclass(frozen=True)
class EncoderHeads:
    """The attention of an encoder."""

    heads: int
    width: int
    """Of a query and of a key."""
    value_width: int
    scale: float


@dataclass(frozen=True)
class DecoderHeads:
    """The attention of a decoder: how many heads of which width, and how far its rotation reaches."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    """Of the checkpoint; in the graph heads are padded (docs/decisions/0002)."""
    positions: int
    theta: float

    @property
    def padded(self) -> int:
        return padded_head_dim(self.head_dim)

    @property
    def scale(self) -> float:
        return float(self.head_dim**-0.5)


class CacheWriter(Protocol):
    """The keys and values of a decoder, and the inputs of the graph that say where it stands."""

    def attend(self, g: GraphWriter, layer: int, qkv: str) -> str:
        """Rotate, append to the cache of ``layer``, and attend causally to all that is in it.

        Args:
            qkv: [1, tokens, (heads + 2 · kv_heads) · padded], packed

        Returns:
            [1, tokens, heads · padded]
        """
        ...


class Lowering(Protocol):
    """How graphs are written for one backend."""

    @property
    def target(self) -> str:
        """As the manifest names it."""
        ...

    @property
    def opset(self) -> int: ...

    @property
    def ir_version(self) -> int: ...

    @property
    def floats(self) -> str:
        """Type of weights and tensors inside a graph, float32 or float16; inputs and outputs stay float32."""
        ...

    @property
    def stored(self) -> str:
        """Type in which tables and the weights of convolutions lie in the file, float32 or float16; what ``floats``
        does not name is cast (docs/decisions/0023)."""
        ...

    @property
    def joins_products(self) -> bool:
        """Whether products of the same rows are one: a compiler may join them by itself and lose their narrow form."""
        ...

    @property
    def best_logits(self) -> int:
        """How many of its best logits a decoder hands out beside all of them, so that these can stay on a device; or
        0, where they are in the memory of whoever chooses."""
        ...

    def rms_norm(self, g: GraphWriter, x: str, gain: str, eps: float) -> str:
        """x / sqrt(mean(x²) + eps) · gain over the last axis; its squares may not overflow."""
        ...

    def gelu(self, g: GraphWriter, x: str) -> str:
        """The exact one, by the error function."""
        ...

    def attention(self, g: GraphWriter, q: str, k: str, v: str, heads: EncoderHeads, visible: str | None = None) -> str:
        """softmax(scale · q kᵀ) v, every position sees every other one that is visible.

        Args:
            q, k: [batch, n, heads, width]; v: [batch, n, heads, value_width]
            visible: bool [n of q, n of k], or all are

        Returns:
            [batch, n, heads · value_width]
        """
        ...

    def kv_cache(self, g: GraphWriter, heads: DecoderHeads, rows: str) -> CacheWriter:
        """Begin a decoder: adds its inputs, apart from the cache itself.

        Args:
            rows: a tensor whose second axis counts the new tokens
        """
        ...
