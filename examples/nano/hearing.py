"""The audio encoder and its adapter in torch; parameters bear the names of the release (specification 2.5 and 5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vita_edge.export.checkpoint.config import AudioConfig

__all__ = ["AudioEncoder"]


class Cmvn(nn.Module):
    mean: Tensor
    istd: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("istd", torch.ones(bins))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.istd


class Core(nn.Module):
    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, c.conv_width, 3, 2), nn.ReLU(), nn.Conv2d(c.conv_width, c.conv_width, 3, 2), nn.ReLU()
        )
        self.out = nn.Sequential(nn.Linear(c.conv_width * c.conv_bins, c.conv_width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.unsqueeze(1).to(memory_format=torch.channels_last))
        return self.out(x.transpose(1, 2).flatten(2))


class Subsampling(nn.Module):
    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        self.core = Core(c)

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)


class Attention(nn.Module):
    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        width, self.heads = c.hidden_size, c.heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(width, width) for _ in range(4))
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(c.heads, width // c.heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(c.heads, width // c.heads))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(len(y), length, self.heads, -1).transpose(1, 2)

        q, k, v = split(self.linear_q(x)), split(self.linear_k(x)), split(self.linear_v(x))
        p = split(self.linear_pos(positions)[None]).expand(batch, -1, -1, -1)
        queries = torch.cat([q + self.pos_bias_u[:, None], q + self.pos_bias_v[:, None]], -1).to(v.dtype)
        keys = torch.cat([k, p], -1)
        mixed = F.scaled_dot_product_attention(queries, keys, v, attn_mask=mask, scale=(width // self.heads) ** -0.5)
        return self.linear_out(mixed.transpose(1, 2).reshape(batch, length, width))


class FeedForward(nn.Module):
    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        self.w_1 = nn.Linear(c.hidden_size, c.intermediate_size)
        self.w_2 = nn.Linear(c.intermediate_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.relu(self.w_1(x)))


class Layer(nn.Module):
    def __init__(self, c: AudioConfig, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c.hidden_size, 1e-5), nn.LayerNorm(c.hidden_size, 1e-5)
        self.self_attn = Attention(c)
        self.feed_forward = FeedForward(c)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        x = x + self.drop(self.self_attn(self.norm1(x), positions, mask))
        return x + self.drop(self.feed_forward(self.norm2(x)))


class Transformer(nn.Module):
    def __init__(self, c: AudioConfig, dropout: float) -> None:
        super().__init__()
        self.c = c
        self.embed = nn.Sequential(nn.Linear(c.conv_width, c.hidden_size), nn.LayerNorm(c.hidden_size, 1e-5), nn.ReLU())
        self.encoders = nn.ModuleList(Layer(c, dropout) for _ in range(c.layers))
        self.after_norm = nn.LayerNorm(c.hidden_size, 1e-5)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        x = self.embed(x) * self.c.hidden_size**0.5
        length = x.shape[1]
        positions, mask = _sinusoids(length, self.c.hidden_size), _chunk_mask(length, self.c)
        # steps behind the end of a clip are seen by none before it, since whoever sees them is in the same chunk
        mask = mask & (torch.arange(length) < steps[:, None])[:, None, None]
        mask = mask | torch.eye(length, dtype=torch.bool)
        for layer in self.encoders:
            x = layer(x, positions, mask)
        return self.after_norm(x)


class Encoder(nn.Module):
    def __init__(self, c: AudioConfig, dropout: float) -> None:
        super().__init__()
        self.global_cmvn = Cmvn(c.mel_bins)
        self.enc = nn.ModuleList([Subsampling(c), Transformer(c, dropout)])


class Adapter(nn.Module):
    def __init__(self, c: AudioConfig, hidden: int) -> None:
        super().__init__()
        self.kernel = c.adapter_kernel
        self.conv1d2 = nn.Conv1d(c.hidden_size, 2 * c.hidden_size, c.adapter_kernel, 2)
        self.bn2 = nn.LayerNorm(2 * c.hidden_size, 1e-3)
        self.project = nn.Linear(2 * c.hidden_size, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x.transpose(1, 2), (0, self.kernel - 1))
        return self.project(F.gelu(self.bn2(self.conv1d2(x).transpose(1, 2))))


class AudioEncoder(nn.Module):
    def __init__(self, c: AudioConfig, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = Encoder(c, dropout)
        self.adpter = Adapter(c, hidden)

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features [n, frames, 80] → [n, steps, width], and the steps of each clip."""
        steps = ((frames - 3) // 2 + 1 - 3) // 2 + 1
        subsampling, transformer = self.encoder.enc
        x = transformer(subsampling(features), steps)
        return x * (torch.arange(x.shape[1]) < steps[:, None])[..., None], steps

    def adapt(self, encoded: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """[n, steps, width] → rows [n, positions, hidden], and the positions of each clip."""
        return self.adpter(encoded), (steps - 1) // 2 + 1


def _chunk_mask(length: int, c: AudioConfig) -> Tensor:
    chunk = torch.arange(length) // c.chunk_size
    distance = chunk[:, None] - chunk
    return (distance >= 0) & (distance <= c.left_chunks)


def _sinusoids(length: int, width: int) -> Tensor:
    rate = torch.exp(torch.arange(0, width, 2) * -(math.log(10000.0) / width))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
