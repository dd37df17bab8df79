"""InternViT and the projector: normalised tiles in, prompt rows out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vita_edge.export.checkpoint.config import VisionConfig
from vita_edge.export.checkpoint.layout import VISION_TENSORS

from .layers import RmsNorm, joined_heads, split_heads, wide
from .weights import Layers, Weights

__all__ = ["VisionTower"]


class VisionTower:
    """From pixels to what is spliced into a prompt, stage by stage."""

    def __init__(self, config: VisionConfig, llm_width: int, weights: Weights) -> None:
        tower = weights.below(VISION_TENSORS)
        self._config = config
        self._embeddings = tower.below("embeddings.").load(lambda: _Embeddings(config))
        self._layers = Layers(tower.below("encoder.layers."), config.layers, lambda: _Layer(config))
        self._projector = weights.below("model.mm_projector.").load(lambda: _projector(config, llm_width))
        self._dtype, self._device = weights.dtype, weights.device

    def stages(self, pixels: Tensor) -> dict[str, Tensor]:
        """pixels: [tiles, 3, S, S] → ``vit`` [tiles, 1 + grid², width], ``tower`` (merged) and ``proj``."""
        x = self._embeddings(pixels.to(self._device, self._dtype))
        for layer in self._layers:
            x = layer(x)
        merged = _merged(x)
        return {"vit": x, "tower": merged, "proj": self._projector(merged)}


class _Embeddings(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(1, 1, c.hidden_size))
        self.patch_embedding = nn.Conv2d(3, c.hidden_size, c.patch_size, c.patch_size)
        self.position_embedding = nn.Parameter(torch.zeros(1, 1 + c.grid**2, c.hidden_size))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return torch.cat([self.class_embedding.expand(len(pixels), -1, -1), patches], 1) + self.position_embedding


class _Layer(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(c), _norm(c)
        self.attn = _Attention(c)
        self.mlp = _Mlp(c)
        self.ls1, self.ls2 = nn.Parameter(torch.ones(c.hidden_size)), nn.Parameter(torch.ones(c.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1 * self.attn(self.norm1(x))
        return x + self.ls2 * self.mlp(self.norm2(x))


class _Attention(nn.Module):
    """All tokens of a tile see each other; queries and keys may be normed over their whole width."""

    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.heads, width = c.heads, c.hidden_size
        self.qkv = nn.Linear(width, 3 * width, bias=c.qkv_bias)
        self.proj = nn.Linear(width, width)
        if c.qk_normalization:
            self.q_norm, self.k_norm = RmsNorm(width, c.layer_norm_eps), RmsNorm(width, c.layer_norm_eps)
        self.normed = c.qk_normalization

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.normed:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (split_heads(y, self.heads) for y in (q, k, v))
        scores = wide((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2))
        return self.proj(joined_heads(scores.softmax(-1).to(x.dtype) @ v))


class _Mlp(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(c.hidden_size, c.intermediate_size)
        self.fc2 = nn.Linear(c.intermediate_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def _norm(c: VisionConfig) -> nn.Module:
    kind = RmsNorm if c.norm_type == "rms_norm" else nn.LayerNorm
    return kind(c.hidden_size, c.layer_norm_eps)


def _projector(c: VisionConfig, llm_width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4 * c.hidden_size, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width))


def _merged(x: Tensor) -> Tensor:
    """Without the class token, halved, 2 x 2 neighbours side by side: [tiles, grid² / 4, 4 width]."""
    tiles, tokens, width = x.shape
    half = math.isqrt(tokens - 1) // 2
    squares = (0.5 * x[:, 1:]).reshape(tiles, half, 2, half, 2, width).transpose(2, 3)
    return squares.reshape(tiles, half * half, 4 * width)
