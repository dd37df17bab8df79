"""The speech decoder: embedding rows of a sentence in, codes out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vita_edge.export.checkpoint.config import SpeechConfig

from .layers import DecoderLayer, DecoderShape, KvCache, RmsNorm
from .weights import Weights

__all__ = ["SpeechDecoder"]

ROPE_THETA, RMS_NORM_EPS = 10000.0, 1e-6
MAX_CODES = 1000


class SpeechDecoder:
    """A sentence as embedding rows of the language model → codes, 40 for a second of speech."""

    def __init__(self, config: SpeechConfig, weights: Weights) -> None:
        self._config, self._dtype, self._device = config, weights.dtype, weights.device
        self._net = weights.load(lambda: _Net(config))

    @property
    def end(self) -> int:
        """The code that ends a sentence."""
        return self._config.codes + 2

    def vectors(self, rows: Tensor) -> Tensor:
        """[tokens, llm_width] → [tokens * llm_width / width, width]"""
        return rows.reshape(-1, self._config.width)

    def pre_nn(self, vectors: Tensor) -> Tensor:
        """The bidirectional layers: [n, width] → [n, width]."""
        x = vectors.to(self._device, self._dtype)
        for layer in self._net.layers_pre_nn:
            x = layer(x, KvCache(), causal=False)
        return x

    def codes(
        self, pre_nn: Tensor, *, limit: int = MAX_CODES, penalty_window: int = 0, penalty: float = 1.0
    ) -> Iterator[tuple[int, Tensor]]:
        """Greedy codes with their logits [codes + 4]; the end code comes last when it comes.

        ``penalty`` divides the logit of each of the last ``penalty_window`` codes, once per occurrence.
        """
        bos, sos, end, padding = range(self._config.codes, self._config.codes + 4)
        caches = [KvCache() for _ in self._net.layers]
        self._run(torch.cat([self._embedding(bos), pre_nn]), caches)  # every vector sees every other one
        history = [sos]
        while len(history) <= limit:
            logits = self._net.out_fnn(self._net.norm(self._run(self._embedding(history[-1]), caches)))[0]
            scores = logits.clone()
            for code in history[-penalty_window:] if penalty_window > 0 else []:
                scores[code] /= penalty
            scores[[bos, sos, padding]] = -torch.inf
            history.append(int(scores.argmax()))
            yield history[-1], logits
            if history[-1] == end:
                return

    def _embedding(self, code: int) -> Tensor:
        return self._net.embedding.weight[code : code + 1]

    def _run(self, x: Tensor, caches: list[KvCache]) -> Tensor:
        for layer, cache in zip(self._net.layers, caches):
            x = layer(x, cache, causal=False)
        return x


class _Net(nn.Module):
    """The parts by their names in the checkpoint."""

    def __init__(self, c: SpeechConfig) -> None:
        super().__init__()
        shape = DecoderShape(c.width, c.intermediate_size, c.heads, c.heads, RMS_NORM_EPS, ROPE_THETA, bias=False)
        self.embedding = nn.Embedding(c.codes + 4, c.width)
        self.layers_pre_nn = nn.ModuleList(DecoderLayer(shape) for _ in range(c.pre_layers))
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(c.layers))
        self.norm = RmsNorm(c.width, RMS_NORM_EPS)
        self.out_fnn = nn.Linear(c.width, c.codes + 4)
