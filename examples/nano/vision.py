"""InternViT and the projector in torch; parameters bear the names of the release (specification 2.5 and 6.6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vita_edge.export.checkpoint.config import VisionConfig

__all__ = ["VisionTower", "merged"]


class Embeddings(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(0.02 * torch.randn(1, 1, c.hidden_size))
        self.patch_embedding = nn.Conv2d(3, c.hidden_size, c.patch_size, c.patch_size)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, 1 + c.grid**2, c.hidden_size))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pixels), -1, -1).to(patches.dtype)
        return torch.cat([first, patches], 1) + self.position_embedding


class Attention(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.heads = c.heads
        self.qkv = nn.Linear(c.hidden_size, 3 * c.hidden_size)
        self.proj = nn.Linear(c.hidden_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(c.hidden_size, c.intermediate_size)
        self.fc2 = nn.Linear(c.intermediate_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.attn = Attention(c)
        self.ls1 = nn.Parameter(0.5 * torch.ones(c.hidden_size))
        self.norm2 = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.mlp = Mlp(c)
        self.ls2 = nn.Parameter(0.5 * torch.ones(c.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1 * self.attn(self.norm1(x))
        return x + self.ls2 * self.mlp(self.norm2(x))


class Encoder(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))


class VisionTower(nn.Module):
    """Pixels [n, 3, S, S] → [n, 1 + grid², width]."""

    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(c)
        self.encoder = Encoder(c)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embeddings(pixels)
        for layer in self.encoder.layers:
            x = layer(x)
        return x


def merged(x: Tensor) -> Tensor:
    """Without the class token, halved, and 2x2 neighbours side by side: [n, (grid / 2)², 4 width]."""
    x = 0.5 * x[:, 1:]
    n, patches, width = x.shape
    half = int(patches**0.5) // 2
    x = x.view(n, half, 2, half, 2, width).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, half * half, 4 * width)
