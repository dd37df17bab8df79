"""The audio encoder and its adapter: filter bank in, prompt rows out."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vita_edge.export.checkpoint.config import AudioConfig

from .layers import joined_heads, split_heads, wide, wide_dtype
from .weights import Layers, Weights

__all__ = ["AudioEncoder"]

MASKED_SCORE = -65504.0


class AudioEncoder:
    """From the filter bank to what is spliced into a prompt, stage by stage."""

    def __init__(self, config: AudioConfig, llm_width: int, weights: Weights) -> None:
        encoder = weights.below("encoder.")
        self._config = config
        self._cmvn = encoder.below("global_cmvn.").load(lambda: _Cmvn(config))
        self._front = encoder.below("enc.0.core.").load(lambda: _ConvFront(config))
        self._embed = encoder.below("enc.1.embed.").load(lambda: _embed(config))
        self._layers = Layers(encoder.below("enc.1.encoders."), config.layers, lambda: _Layer(config))
        self._after_norm = encoder.below("enc.1.after_norm.").load(lambda: nn.LayerNorm(config.hidden_size, 1e-5))
        self._adapter = weights.below("adpter.").load(lambda: _Adapter(config, llm_width))
        self._prompt = weights.rows("prompt_embeddings.weight") if config.prompt_rows else None
        self._dtype, self._device = weights.dtype, weights.device

    def stages(self, fbank: Tensor, *, full_attention: bool = False) -> dict[str, Tensor]:
        """fbank: [frames, mel_bins] → ``cmvn``, ``sub``, ``embed``, ``enc``, ``adapter`` and ``embeds``.

        ``embeds`` is [prompt_rows + adapter frames, llm_width]; ``full_attention`` leaves the chunk mask away.
        """
        cmvn = self._cmvn(fbank.to(self._device, wide_dtype(self._dtype))).to(self._dtype)
        sub = self._front(cmvn)
        embed = self._embed(sub)
        enc = self._transformer(embed, full_attention)
        adapter = self._adapter(enc)
        embeds = adapter if self._prompt is None else torch.cat([self._prompt, adapter])
        return {"cmvn": cmvn, "sub": sub, "embed": embed, "enc": enc, "adapter": adapter, "embeds": embeds}

    def _transformer(self, x: Tensor, full_attention: bool) -> Tensor:
        steps, width = x.shape
        x = x * math.sqrt(width)
        positions = _sinusoids(steps, width).to(x)
        visible = _visible(steps, self._config, full_attention).to(x.device)
        for layer in self._layers:
            x = layer(x, positions, visible)
        return self._after_norm(x)


class _Cmvn(nn.Module):
    mean: Tensor
    istd: Tensor

    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(c.mel_bins))
        self.register_buffer("istd", torch.ones(c.mel_bins))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean.to(x.dtype)) * self.istd.to(x.dtype)


class _ConvFront(nn.Module):
    """Two 3x3 convolutions of stride 2: a quarter of the frames; the channel is the slow index of what is flattened."""

    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        first, second = nn.Conv2d(1, c.conv_width, 3, 2), nn.Conv2d(c.conv_width, c.conv_width, 3, 2)
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.out = nn.Sequential(nn.Linear(c.conv_width * c.conv_bins, c.conv_width))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x[None, None])[0].transpose(0, 1).flatten(1))


def _embed(c: AudioConfig) -> nn.Module:
    return nn.Sequential(nn.Linear(c.conv_width, c.hidden_size), nn.LayerNorm(c.hidden_size, 1e-5), nn.ReLU())


class _Layer(nn.Module):
    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c.hidden_size, 1e-5), nn.LayerNorm(c.hidden_size, 1e-5)
        self.self_attn = _Attention(c)
        self.feed_forward = _FeedForward(c)

    def forward(self, x: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        x = x + self.self_attn(self.norm1(x), positions, visible)
        return x + self.feed_forward(self.norm2(x))


class _Attention(nn.Module):
    """Scores of key and of its absolute position, ((q + u) k + (q + v) p) / sqrt(d); there is no relative shift."""

    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        width, self.heads = c.hidden_size, c.heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(width, width) for _ in range(4))
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(c.heads, width // c.heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(c.heads, width // c.heads))

    def forward(self, x: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        q, k, v = (split_heads(linear(x), self.heads) for linear in (self.linear_q, self.linear_k, self.linear_v))
        p = split_heads(self.linear_pos(positions), self.heads)
        by_key = (q + self.pos_bias_u[:, None]) @ k.transpose(-1, -2)
        by_position = (q + self.pos_bias_v[:, None]) @ p.transpose(-1, -2)
        scores = wide(by_key + by_position) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~visible, MASKED_SCORE).softmax(-1) * visible
        return self.linear_out(joined_heads(weights.to(x.dtype) @ v))


class _FeedForward(nn.Module):
    def __init__(self, c: AudioConfig) -> None:
        super().__init__()
        self.w_1 = nn.Linear(c.hidden_size, c.intermediate_size)
        self.w_2 = nn.Linear(c.intermediate_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.relu(self.w_1(x)))


class _Adapter(nn.Module):
    """Half of the frames, zeros behind the last; then norm, activation, and the width of the language model."""

    def __init__(self, c: AudioConfig, llm_width: int) -> None:
        super().__init__()
        width = 2 * c.hidden_size
        self.conv1d2 = nn.Conv1d(c.hidden_size, width, c.adapter_kernel, 2)
        self.bn2 = nn.LayerNorm(width, 1e-3) if c.adapter_norm == "layer" else _FrozenBatchNorm(width, 1e-3)
        self.project = nn.Linear(width, llm_width)
        self.activation: Callable[[Tensor], Tensor] = F.gelu if c.adapter_gelu else F.relu

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x.T, (0, self.conv1d2.kernel_size[0] - 1))
        return self.project(self.activation(self.bn2(self.conv1d2(padded[None])[0].T)))


class _FrozenBatchNorm(nn.Module):
    """Batch norm as it is at inference, over the last axis."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.running_mean) / torch.sqrt(self.running_var + self.eps) * self.weight + self.bias


def _sinusoids(steps: int, width: int) -> Tensor:
    """float64 [steps, width]: sine and cosine in turn, rate 10000^(-2i / width)."""
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(steps, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


def _visible(steps: int, c: AudioConfig, full_attention: bool) -> Tensor:
    """bool [query, key]: a step sees its own chunk, and ``left_chunks`` before it (all when negative)."""
    if full_attention or c.chunk_size <= 0:
        return torch.ones(steps, steps, dtype=torch.bool)
    chunk = torch.arange(steps) // c.chunk_size
    behind = chunk[:, None] - chunk[None, :]
    return (behind >= 0) & ((behind <= c.left_chunks) | (c.left_chunks < 0))
