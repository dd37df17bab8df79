"""What several parts of the model are made of: norms, heads, rotation, and the decoder layer of Qwen2 and Llama."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DecoderLayer", "DecoderShape", "KvCache", "RmsNorm", "joined_heads", "split_heads", "wide", "wide_dtype"]


def wide(x: Tensor) -> Tensor:
    """At least float32: sums and exponentials are not left to half precision."""
    return x.to(wide_dtype(x.dtype))


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[..., n, heads * d] → [..., heads, n, d]"""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(-2, -3)


def joined_heads(x: Tensor) -> Tensor:
    """[..., heads, n, d] → [..., n, heads * d]"""
    return x.transpose(-2, -3).flatten(-2)


class RmsNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) * weight, over the last axis."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = wide(x)
        return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


@dataclass(frozen=True)
class DecoderShape:
    """What tells the layers of the language model (Qwen2) from those of the speech decoder (Llama)."""

    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    rms_norm_eps: float
    rope_theta: float
    bias: bool
    """Of queries, keys and values."""

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads


class KvCache:
    """Keys and values of one layer: [kv_heads, tokens, head_dim] each."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.keys is None else self.keys.shape[-2]

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add tokens behind those that are there; returns all."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], -2), torch.cat([self.values, values], -2)
        self.keys, self.values = keys, values
        return keys, values

    def truncate(self, tokens: int) -> None:
        """Keep the first ``tokens``."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[..., :tokens, :], self.values[..., :tokens, :]


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = _Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = _GatedMlp(shape)

    def forward(self, x: Tensor, cache: KvCache, causal: bool) -> Tensor:
        """x: [..., tokens, hidden_size], behind the tokens of ``cache``."""
        x = x + self.self_attn(self.input_layernorm(x), cache, causal)
        return x + self.mlp(self.post_attention_layernorm(x))


class _Attention(nn.Module):
    """Grouped attention over the cache and the new tokens; query head j uses key head j // (heads / kv_heads)."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        width, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden_size, width, bias=shape.bias)
        self.k_proj = nn.Linear(shape.hidden_size, keys, bias=shape.bias)
        self.v_proj = nn.Linear(shape.hidden_size, keys, bias=shape.bias)
        self.o_proj = nn.Linear(width, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, cache: KvCache, causal: bool) -> Tensor:
        shape, start, tokens = self.shape, len(cache), x.shape[-2]
        q, k = split_heads(self.q_proj(x), shape.heads), split_heads(self.k_proj(x), shape.kv_heads)
        v = split_heads(self.v_proj(x), shape.kv_heads)
        angles = _angles(start, tokens, shape, x)
        k, v = cache.append(_rotated(k, angles), v)
        group = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(group, -3), v.repeat_interleave(group, -3)
        scores = wide(_rotated(q, angles) @ k.transpose(-1, -2)) * shape.head_dim**-0.5
        if causal:
            later = torch.ones(tokens, start + tokens, dtype=torch.bool, device=x.device).triu(start + 1)
            scores = scores.masked_fill(later, -torch.inf)
        return self.o_proj(joined_heads(scores.softmax(-1).to(x.dtype) @ v))


class _GatedMlp(nn.Module):
    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def _angles(start: int, tokens: int, shape: DecoderShape, like: Tensor) -> Tensor:
    """position * theta^(-2i / d): [tokens, head_dim / 2], in double as far as the device has it."""
    exact = torch.float32 if like.device.type == "mps" else torch.float64
    positions = torch.arange(start, start + tokens, dtype=exact, device=like.device)
    rates = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2, dtype=exact, device=like.device) / shape.head_dim)
    return positions[:, None] * rates


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Turn the pairs (i, i + d / 2) of every head by the angle of their position."""
    low, high = wide(x).chunk(2, -1)
    cos, sin = angles.cos().to(low.dtype), angles.sin().to(low.dtype)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1).to(x.dtype)
