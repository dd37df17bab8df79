"""How much there is to do: weights and multiply-accumulates (MACs) of each part of a model, whatever it runs on.

Export writes it into the manifest; with a device it becomes an estimate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..reading.typed import build_record

__all__ = ["DecoderShape", "ModelWork", "Part", "Parts"]


@dataclass(frozen=True)
class Part:
    """A part of the model, and what it does for one unit: a position, a tile, a step of 40 ms, a code."""

    weights: int
    """Learned numbers."""
    macs: int
    """Multiply-accumulates for a unit, those of convolutions left out."""
    convolution_weights: int = 0
    """Of ``weights``, those of convolutions and tables, which no precision narrows below half."""
    convolution_macs: int = 0
    widest: int = 0
    """Values of the widest layer for a unit: they say how much room activations take."""
    launches: int = 0
    """Operators that run one after the other in a call, about."""


@dataclass(frozen=True)
class Parts:
    """The rows of the model's table of sizes. In the comments: for what one unit is."""

    embedding: Part  # a token
    llm_layers: Part  # a position
    llm_head: Part  # a call
    vision: Part  # a tile
    projector: Part  # a tile
    audio_encoder: Part  # a step of 40 ms
    audio_adapter: Part  # a position
    speech_prefix: Part  # a vector of text
    speech_layers: Part  # a vector of text, or a code
    speech_head: Part  # a code
    codec: Part  # a code

    def all(self) -> Mapping[str, Part]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True)
class DecoderShape:
    """What a KV cache and attention over it cost."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    def kv_values(self) -> int:
        """Numbers that a position adds to the cache."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def attention_macs(self, rows: int, past: int) -> int:
        """Of ``rows`` new positions over ``past`` held ones and, causally, over themselves."""
        return self.masked_macs(1, rows * past + rows * (rows + 1) // 2)

    def masked_macs(self, rows: int, seen: int) -> int:
        """Where every row goes over ``seen`` positions, those too that a mask hides."""
        return 2 * self.layers * self.heads * self.head_dim * rows * seen


@dataclass(frozen=True)
class ModelWork:
    """A whole model."""

    llm: DecoderShape
    speech: DecoderShape
    parts: Parts
    hidden_size: int
    vectors_per_token: int
    """Vectors that the speech decoder reads for a token of text."""
    speech_context_tokens: int
    codes_per_second: float
    codec_left: int
    """Codes to the left that a window of the codec carries along."""
    codec_right: int
    tokens_per_tile: int
    prompt_limit_tokens: int
    context_tokens: int
    """Positions that the language model can address."""
    streams_audio: bool = True
    """A question is encoded and read while it is said; an encoder with full attention waits for its end."""

    @property
    def weights(self) -> int:
        return sum(part.weights for part in self.parts.all().values())

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> ModelWork:
        """What :meth:`to_json` made.

        Raises:
            ValueError: a field is missing or has the wrong type; the message names it.
        """
        return build_record(cls, data, "work")
