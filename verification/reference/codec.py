"""The codec: codes in, waveform out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vita_edge.export.checkpoint.config import CodecConfig
from vita_edge.export.checkpoint.layout import CODEC_WIDTH, GLOBAL_WIDTH

from .weights import Weights

__all__ = ["Codec"]

SLOPE = 0.1
"""Of every leaky ReLU, the last one included."""


class Codec:
    """Tables of codes and the generator of sound."""

    def __init__(self, config: CodecConfig, weights: Weights) -> None:
        self.config = config
        self._device = weights.device
        self._quantizer = weights.below("quantizer.").load(lambda: _Quantizer(config))
        self._generator = weights.below("generator.").load(lambda: _Generator(config))

    def stages(self, codes: Tensor) -> dict[str, Tensor]:
        """codes: [frames] or [frames, streams] → ``global``, ``quant``, ``conv_pre``, ``up0`` … and ``wave``.

        ``wave`` is [frames * samples_per_code], in [-1, 1].
        """
        codes = codes.to(self._device).reshape(-1, self.config.streams)
        voice, vectors = self._quantizer.voice(), self._quantizer(codes)
        return {"global": voice, "quant": vectors, **self._generator(vectors, voice)}

    def wave(self, codes: Tensor) -> Tensor:
        """The waveform of all codes in one pass."""
        return self.stages(codes)["wave"]


class _Embedding(nn.Module):
    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(rows, width)

    def forward(self, codes: Tensor) -> Tensor:
        return self.embedding(codes)


class _Quantizer(nn.Module):
    """The groups of a code are concatenated, the residual layers are summed."""

    def __init__(self, c: CodecConfig) -> None:
        super().__init__()
        self.c = c
        for layer in range(c.residual_layers):
            groups = (_Embedding(c.n_codes, CODEC_WIDTH // c.n_code_groups) for _ in range(c.n_code_groups))
            self.add_module(_table(layer), nn.ModuleList(groups))
        voices = (_Embedding(c.n_codes, GLOBAL_WIDTH // c.global_code_num) for _ in range(c.global_code_num))
        self.quantizer_modules_globaltokens = nn.ModuleList(voices)

    def forward(self, codes: Tensor) -> Tensor:
        """[frames, streams] → [512, frames]"""
        total = torch.zeros((), device=codes.device)
        for layer, part in enumerate(codes.split(self.c.n_code_groups, -1)):
            tables = self.get_submodule(_table(layer)).children()
            total = total + torch.cat([table(part[:, group]) for group, table in enumerate(tables)], -1)
        return total.T

    def voice(self) -> Tensor:
        """The fixed voice: [128]."""
        tables = zip(self.quantizer_modules_globaltokens, self.c.global_tokens)
        return torch.cat([table.embedding.weight[token] for table, token in tables])


def _table(layer: int) -> str:
    return f"quantizer_modules{layer + 1 if layer else ''}"


class _Generator(nn.Module):
    def __init__(self, c: CodecConfig) -> None:
        super().__init__()
        self.c = c
        self.conv_pre = _Conv(c.channels(0), CODEC_WIDTH, 7)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for i, (rate, kernel) in enumerate(zip(c.upsample_rates, c.upsample_kernel_sizes)):
            width = c.channels(i + 1)
            self.ups.append(_Upsample(c.channels(i), width, kernel, rate))
            block = _Block1 if c.resblock == "1" else _Block2
            for size, dilations in zip(c.resblock_kernel_sizes, c.resblock_dilation_sizes):
                self.resblocks.append(block(width, size, dilations))
        self.conv_post = _Conv(1, c.channels(len(c.upsample_rates)), 7)

    def forward(self, vectors: Tensor, voice: Tensor) -> dict[str, Tensor]:
        """[512, frames] → every stage; the voice is added where the channels are as many as it is long."""
        x = self.conv_pre(vectors)
        stages = {"conv_pre": x}
        kernels = len(self.c.resblock_kernel_sizes)
        for i, up in enumerate(self.ups):
            x = stages[f"up{i}"] = up(_leaky(x))
            x = torch.stack([block(x) for block in self.resblocks[i * kernels : (i + 1) * kernels]]).mean(0)
            if len(x) == len(voice):
                x = x + voice[:, None]
        return {**stages, "wave": torch.tanh(self.conv_post(_leaky(x)))[0]}


class _Normed(nn.Module):
    """weight = g v / |v|, the norm over all axes but the first."""

    def __init__(self, *shape: int, channels_out: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(shape[0], *(1 for _ in shape[1:])))
        self.weight_v = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    @property
    def weight(self) -> Tensor:
        return self.weight_g * self.weight_v / self.weight_v.square().sum((1, 2), keepdim=True).sqrt()


class _Conv(_Normed):
    """A convolution that does not change the length: [in, n] → [out, n]."""

    def __init__(self, channels_out: int, channels_in: int, kernel: int, dilation: int = 1) -> None:
        super().__init__(channels_out, channels_in, kernel, channels_out=channels_out)
        self.dilation, self.padding = dilation, dilation * (kernel - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)


class _Upsample(_Normed):
    """A transposed convolution: [in, n] → [out, rate * n] (as long as kernel - rate is even)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, rate: int) -> None:
        super().__init__(channels_in, channels_out, kernel, channels_out=channels_out)
        self.rate, self.padding = rate, (kernel - rate) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose1d(x, self.weight, self.bias, self.rate, self.padding)


class _Block1(nn.Module):
    """x + conv2(leaky(conv1(leaky(x)))) for each dilation of conv1."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_Conv(width, width, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_Conv(width, width, kernel) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.convs1, self.convs2):
            x = x + second(_leaky(first(_leaky(x))))
        return x


class _Block2(nn.Module):
    """x + conv(leaky(x)) for each dilation."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_Conv(width, width, kernel, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = x + conv(_leaky(x))
        return x


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)
