"""The language model, Qwen2 over embedding rows: several prompts at once, so that each layer is read once for all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vita_edge.export.checkpoint.config import LlmConfig

from .layers import DecoderLayer, DecoderShape, KvCache, RmsNorm
from .weights import Layers, Table, Weights

__all__ = ["Cache", "LanguageModel"]

Cache = list[KvCache]
"""Keys and values of every layer, for one prompt."""


class LanguageModel:
    """Embedding rows → logits.

    Args:
        words: ids that the tokenizer knows; the rows of the output layer behind them do not exist for the model.
    """

    def __init__(self, config: LlmConfig, words: int, weights: Weights) -> None:
        shape = DecoderShape(
            config.hidden_size,
            config.intermediate_size,
            config.heads,
            config.kv_heads,
            config.rms_norm_eps,
            config.rope_theta,
            bias=True,
        )
        self.config, self.words = config, min(words, config.vocab_rows)
        self._layers = Layers(weights.below("model.layers."), config.layers, lambda: DecoderLayer(shape))
        self._norm = weights.below("model.norm.").load(lambda: RmsNorm(config.hidden_size, config.rms_norm_eps))
        self._embedding = Table(weights, "model.embed_tokens.weight", config.vocab_rows)
        head = "model.embed_tokens.weight" if config.tied else "lm_head.weight"
        self._head = Table(weights, head, self.words)
        self._dtype, self._device = weights.dtype, weights.device

    def embed(self, ids: Sequence[int]) -> Tensor:
        """[len(ids), hidden_size]"""
        return self._embedding.rows(list(ids))

    def new_cache(self) -> Cache:
        return [KvCache() for _ in range(self.config.layers)]

    def hidden(self, rows: Sequence[Tensor], caches: Sequence[Cache]) -> list[Tensor]:
        """The normed last hidden states of each prompt: [tokens, hidden_size], behind what its cache holds."""
        states = [x.to(self._device, self._dtype) for x in rows]
        for i, layer in enumerate(self._layers):
            states = [layer(x, cache[i], causal=True) for x, cache in zip(states, caches)]
        return [self._norm(x) for x in states]

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, hidden_size] → [n, words]"""
        return self._head.project(hidden)

    def choose(self, logits: Tensor, past: Sequence[int]) -> int:
        """The greedy next token; a repetition penalty touches the tokens that were generated, each once."""
        seen = sorted(set(past))
        scores = logits.clone()
        scores[seen] = torch.where(
            scores[seen] < 0,
            scores[seen] * self.config.repetition_penalty,
            scores[seen] / self.config.repetition_penalty,
        )
        return int(scores.argmax())
