"""Qwen2 in torch; parameters bear the names of the release (specification 2.5 and 7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vita_edge.export.checkpoint.config import LlmConfig

__all__ = ["Attention", "Past", "Qwen2"]

Past = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, [1, kv heads, positions, head width]."""


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, c: LlmConfig) -> None:
        super().__init__()
        self.c = c
        self.q_proj = nn.Linear(c.hidden_size, c.heads * c.head_dim)
        self.k_proj = nn.Linear(c.hidden_size, c.kv_heads * c.head_dim)
        self.v_proj = nn.Linear(c.hidden_size, c.kv_heads * c.head_dim)
        self.o_proj = nn.Linear(c.heads * c.head_dim, c.hidden_size, bias=False)

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple:
        c, (batch, length, _) = self.c, x.shape
        q = self.q_proj(x).view(batch, length, c.heads, c.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, c.kv_heads, c.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, c.kv_heads, c.head_dim).transpose(1, 2)
        q, k = _rotated(q, angles).to(v.dtype), _rotated(k, angles).to(v.dtype)
        present = (k, v)
        if past is not None:
            k = torch.cat([past[0].expand(batch, -1, -1, -1), k], 2)
            v = torch.cat([past[1].expand(batch, -1, -1, -1), v], 2)
        group = c.heads // c.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = (q @ k.transpose(-1, -2)).float() * c.head_dim**-0.5  # faster on a CPU than the fused function
        mixed = scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype) @ v
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1)), present


class Mlp(nn.Module):
    def __init__(self, c: LlmConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: LlmConfig) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = Mlp(c)

    def forward(self, x: Tensor, angles: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple:
        mixed, present = self.self_attn(self.input_layernorm(x), angles, mask, past)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), present


class Qwen2(nn.Module):
    """``embed_tokens``, ``layers`` and ``norm``; the rows of pictures and sounds come from outside."""

    def __init__(self, c: LlmConfig) -> None:
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c.vocab_rows, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = RmsNorm(c.hidden_size, c.rms_norm_eps)

    def forward(self, rows: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """Rows float32 [batch, positions, hidden] after ``past``, which is the same for the whole batch.

        Returns the normed hidden states [batch, positions, hidden], and keys and values of these rows.
        """
        before = past[0][0].shape[2] if past else 0
        length = rows.shape[1]
        positions = torch.arange(before, before + length, dtype=torch.float32)
        rate = self.c.rope_theta ** (-torch.arange(0, self.c.head_dim, 2, dtype=torch.float32) / self.c.head_dim)
        angles = positions[:, None] * rate
        mask = torch.ones(length, before + length, dtype=torch.bool).tril(before)
        presents: Past = []
        x = rows
        for i, layer in enumerate(self.layers):
            x, present = layer(x, angles, mask, past[i] if past else None)
            presents.append(present)
        return self.norm(x), presents


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    low, high = x.float().chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
