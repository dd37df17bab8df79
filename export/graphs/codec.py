"""TiCodec's generator: codes to waveform (spec: codec)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.component_spec import CODEC

from ..checkpoint.open_checkpoint import Checkpoint
from ..lowerings.lowering import Lowering
from ..weights.weight import Weight, as_is, computed
from .graph_builder import GraphBuilder

__all__ = ["codec_graph"]

SLOPE = 0.1
"""Of every leaky ReLU, the one before conv_post included."""


def codec_graph(checkpoint: Checkpoint, lowering: Lowering | None = None) -> GraphBuilder:
    """codes int64 [streams, n] (streams is 1 in the release) → waveform float32 [1, samples_per_code · n]."""
    config = checkpoint.config.codec
    g = GraphBuilder(CODEC.name, lowering=lowering)
    codes = g.input(*CODEC.input("codes", streams=config.streams))
    with g.scope("quantizer"):
        quantized = g.tap(_dequantise(g, checkpoint, codes), "quant")
        voice, voice_width = _voice(checkpoint)
        voice_name = g.tap(g.op("Identity", g.weight("voice", voice)), "global")
    with g.scope("generator"):
        x = g.tap(_conv(g, checkpoint, quantized, "conv_pre", kernel=7), "conv_pre")
        for i, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes)):
            with g.scope(f"stage.{i}"):
                weight, bias = _folded(checkpoint, f"generator.ups.{i}")
                x = g.op(
                    "ConvTranspose",
                    _leaky(g, x),
                    g.convolution("up.weight", weight),
                    g.weight("up.bias", bias),
                    strides=[rate],
                    pads=[(kernel - rate) // 2] * 2,
                )
                x = _residual_mean(g, checkpoint, g.tap(x, f"up{i}"), i)
                if config.channels(i + 1) == voice_width:  # the reference adds the voice wherever it happens to fit
                    x = g.op("Add", x, voice_name)
        y = g.op("Tanh", _conv(g, checkpoint, _leaky(g, x), "conv_post", kernel=7))
    g.result(g.reshape(y, [1, -1]), CODEC.output, [1, "samples"])
    return g


def _dequantise(g: GraphBuilder, checkpoint: Checkpoint, codes: str) -> str:
    """Table rows: groups side by side, residual layers summed: [1, 512, n]."""
    config, tensor = checkpoint.config.codec, checkpoint.codec
    layers = []
    for layer in range(config.residual_layers):
        suffix = "" if layer == 0 else str(layer + 1)
        groups = []
        for group in range(config.n_code_groups):
            stream = layer * config.n_code_groups + group
            name = f"quantizer.quantizer_modules{suffix}.{group}.embedding.weight"
            taken = g.take(codes, stream, stream + 1, 0)
            groups.append(g.looked_up(f"table.{layer}.{group}", as_is(tensor[name]), taken))
        layers.append(g.op("Concat", *groups, axis=-1) if len(groups) > 1 else groups[0])
    summed = g.op("Sum", *layers) if len(layers) > 1 else layers[0]
    return g.op("Transpose", summed, perm=[0, 2, 1])


def _voice(checkpoint: Checkpoint) -> tuple[Weight, int]:
    """The fixed voice: rows of the global tables, joined: [1, width, 1]."""
    tensor, tokens = checkpoint.codec, checkpoint.config.codec.global_tokens
    tables = [tensor[f"quantizer.quantizer_modules_globaltokens.{j}.embedding.weight"] for j in range(len(tokens))]
    width = sum(table.shape[1] for table in tables)

    def make() -> NDArray[np.float32]:
        return np.concatenate([table.rows(token, token + 1)[0] for table, token in zip(tables, tokens)])[None, :, None]

    return computed((1, width, 1), make), width


def _residual_mean(g: GraphBuilder, checkpoint: Checkpoint, x: str, stage: int) -> str:
    """The mean of the residual blocks of a stage, one for every kernel size."""
    config = checkpoint.config.codec
    blocks = []
    for m, (kernel, dilations) in enumerate(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes)):
        block = f"resblocks.{stage * len(config.resblock_kernel_sizes) + m}"
        y = x
        for d, dilation in enumerate(dilations):
            if config.resblock == "1":
                z = _conv(g, checkpoint, _leaky(g, y), f"{block}.convs1.{d}", kernel, dilation)
                z = _conv(g, checkpoint, _leaky(g, z), f"{block}.convs2.{d}", kernel)
            else:
                z = _conv(g, checkpoint, _leaky(g, y), f"{block}.convs.{d}", kernel, dilation)
            y = g.op("Add", y, z)
        blocks.append(y)
    total = g.op("Sum", *blocks) if len(blocks) > 1 else blocks[0]
    return g.scale(total, 1.0 / len(blocks))


def _conv(g: GraphBuilder, checkpoint: Checkpoint, x: str, name: str, kernel: int, dilation: int = 1) -> str:
    weight, bias = _folded(checkpoint, f"generator.{name}")
    padding = dilation * (kernel - 1) // 2
    return g.op(
        "Conv",
        x,
        g.convolution(f"{name}.weight", weight),
        g.weight(f"{name}.bias", bias),
        pads=[padding, padding],
        dilations=[dilation],
    )


def _folded(checkpoint: Checkpoint, name: str) -> tuple[Weight, Weight]:
    """Weight norm folded: g · v / ‖v‖, the norm over all axes but the first (also for transposed convolutions)."""
    direction, length = checkpoint.codec[f"{name}.weight_v"], checkpoint.codec[f"{name}.weight_g"]

    def make() -> NDArray[np.float32]:
        v = direction.read().astype(np.float64)
        norm = np.sqrt((v**2).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
        return (length.read() * v / norm).astype(np.float32)

    return computed(direction.shape, make), as_is(checkpoint.codec[f"{name}.bias"])


def _leaky(g: GraphBuilder, x: str) -> str:
    return g.op("LeakyRelu", x, alpha=SLOPE)
