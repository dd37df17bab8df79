"""The codec in PyTorch: the same function as the exported graph, for training it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from codes import CODES
from vita_edge.export.checkpoint.config import CodecConfig
from vita_edge.export.checkpoint.layout import CODEC_WIDTH, GLOBAL_WIDTH

__all__ = ["CONFIG", "Generator", "release_tensors"]

SLOPE = 0.1
CONFIG = CodecConfig(
    resblock="2",
    upsample_rates=(8, 5, 5, 3),
    upsample_kernel_sizes=(16, 11, 11, 5),
    upsample_initial_channel=192,
    resblock_kernel_sizes=(3, 7),
    resblock_dilation_sizes=((1, 3), (1, 3)),
    sample_rate_hz=24000,
    n_codes=CODES,
    n_code_groups=1,
    residual_layers=1,
    global_code_num=8,
    global_tokens=(0,) * 8,
)
"""No stage has as many channels as the global vector is long, so it is never added: one speaker needs none."""


class ResidualBlock(nn.Module):
    """Type 2: twice x + conv(lrelu(x)), dilated."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, dilation=d, padding=d * (kernel - 1) // 2)) for d in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = x + conv(functional.leaky_relu(x, SLOPE))
        return x


class Generator(nn.Module):
    """codes int64 [batch, n] → waveform float32 [batch, samples_per_code · n]."""

    def __init__(self, config: CodecConfig = CONFIG) -> None:
        super().__init__()
        self.table = nn.Embedding(config.n_codes, CODEC_WIDTH)
        self.conv_pre = weight_norm(nn.Conv1d(CODEC_WIDTH, config.channels(0), 7, padding=3))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for i, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes)):
            width = config.channels(i + 1)
            up = nn.ConvTranspose1d(config.channels(i), width, kernel, stride=rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes):
                self.resblocks.append(ResidualBlock(width, size, dilations))
        self.conv_post = weight_norm(nn.Conv1d(config.channels(len(self.ups)), 1, 7, padding=3))
        self.kernels = len(config.resblock_kernel_sizes)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.conv_pre(self.table(codes).transpose(1, 2))
        for i, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, SLOPE))
            blocks = self.resblocks[i * self.kernels : (i + 1) * self.kernels]
            x = sum(block(x) for block in blocks) / self.kernels
        return torch.tanh(self.conv_post(functional.leaky_relu(x, SLOPE))[:, 0].float())


def release_tensors(generator: Generator) -> dict[str, dict[str, Tensor]]:
    """``generator`` and ``quantizer`` of ``codec/final.pt``."""
    tensors: dict[str, Tensor] = {}
    for name, module in generator.named_modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            assert parametrize.is_parametrized(module, "weight")
            weights = module.parametrizations.weight
            tensors[f"{name}.bias"] = module.bias
            tensors[f"{name}.weight_g"], tensors[f"{name}.weight_v"] = weights.original0, weights.original1
    quantizer = {"quantizer_modules.0.embedding.weight": generator.table.weight}
    width = GLOBAL_WIDTH // CONFIG.global_code_num
    for j in range(CONFIG.global_code_num):
        quantizer[f"quantizer_modules_globaltokens.{j}.embedding.weight"] = torch.ones(CODES, width)
    return {"generator": tensors, "quantizer": quantizer}
