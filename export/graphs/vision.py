"""InternViT, pixel shuffle and projector: tiles to rows of the prompt (spec: vision tower)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.component_spec import VISION

from ..checkpoint.layout import VISION_TENSORS
from ..checkpoint.open_checkpoint import Checkpoint
from ..lowerings.lowering import EncoderHeads, Lowering
from ..weights.formats import LinearFormat
from ..weights.weight import Weight, as_is, computed
from .graph_builder import GraphBuilder

__all__ = ["vision_graph"]

FEATURE_SCALE = 0.5
"""The reference halves the features before it shuffles pixels."""


def vision_graph(checkpoint: Checkpoint, linear: LinearFormat, lowering: Lowering | None = None) -> GraphBuilder:
    """pixel_values float32 [tiles, 3, S, S] → image_embeds float32 [tiles, tokens_per_tile, hidden]."""
    config, hidden = checkpoint.config.vision, checkpoint.config.llm.hidden_size
    width, grid, side = config.hidden_size, config.grid, config.image_size
    tensor = checkpoint.main
    g = GraphBuilder(VISION.name, linear, lowering=lowering)
    pixels = g.inner(g.input(*VISION.input("pixel_values", side=side)))

    with g.scope("embeddings"):
        patch = g.op(
            "Conv",
            pixels,
            g.convolution("patch.weight", as_is(tensor[f"{VISION_TENSORS}embeddings.patch_embedding.weight"])),
            g.weight("patch.bias", as_is(tensor[f"{VISION_TENSORS}embeddings.patch_embedding.bias"])),
            strides=[config.patch_size] * 2,
        )
        patches = g.op("Transpose", g.reshape(patch, [0, width, grid * grid]), perm=[0, 2, 1])
        room = g.op("Pad", patches, g.constant([0, 1, 0, 0, 0, 0]))  # a zero row in front, for the class token
        x = g.op("Add", room, g.convolution("position", _position_table(checkpoint)))

    for i in range(config.layers):
        with g.scope(f"layers.{i}"):
            x = _layer(g, checkpoint, x, f"{VISION_TENSORS}encoder.layers.{i}.")
    g.tap(x, "vit")

    with g.scope("projector"):
        half = grid // 2
        blocks = g.reshape(g.take("vit", 1, 1 + grid * grid, 1), [0, half, 2, half, 2, width])
        merged = g.reshape(g.op("Transpose", blocks, perm=[0, 1, 3, 2, 4, 5]), [0, half * half, 4 * width])
        tower = g.tap(g.scale(merged, FEATURE_SCALE), "tower")
        up = _linear(g, checkpoint, tower, "model.mm_projector.0", "0")
        y = _linear(g, checkpoint, g.lowering.gelu(g, up), "model.mm_projector.2", "2")
    g.result(y, "image_embeds", ["tiles", half * half, hidden])
    return g


def _position_table(checkpoint: Checkpoint) -> Weight:
    """Position table with the class token already added to its first row: [1, 1 + grid², C]."""
    table = checkpoint.main[f"{VISION_TENSORS}embeddings.position_embedding"]
    class_token = checkpoint.main[f"{VISION_TENSORS}embeddings.class_embedding"]

    def make() -> NDArray[np.float32]:
        rows = table.read().copy()
        rows[:, :1] += class_token.read()
        return rows

    return computed(table.shape, make)


def _layer(g: GraphBuilder, checkpoint: Checkpoint, x: str, prefix: str) -> str:
    config, tensor = checkpoint.config.vision, checkpoint.main
    width, heads = config.hidden_size, config.heads
    head_dim = width // heads

    def norm(value: str, name: str) -> str:
        weight = as_is(tensor[f"{prefix}{name}.weight"])
        if config.norm_type == "rms_norm":
            return g.rms_norm(value, weight, config.layer_norm_eps, name)
        return g.layer_norm(value, weight, as_is(tensor[f"{prefix}{name}.bias"]), config.layer_norm_eps, name)

    def scaled(name: str, scale: str) -> Weight:
        """A layer scale is a factor on every output row, so it goes into the weights."""
        weight, factor = tensor[name], tensor[scale]
        return computed(weight.shape, lambda: weight.read() * factor.read().reshape(-1, *[1] * (len(weight.shape) - 1)))

    qkv_bias = as_is(tensor[f"{prefix}attn.qkv.bias"]) if config.qkv_bias else None
    qkv = g.linear(norm(x, "norm1"), as_is(tensor[f"{prefix}attn.qkv.weight"]), qkv_bias, "attn.qkv")
    if config.qk_normalization:
        q, k, v = g.op("Split", qkv, axis=-1, num_outputs=3, outputs=3)
        q = g.rms_norm(q, as_is(tensor[f"{prefix}attn.q_norm.weight"]), config.layer_norm_eps, "attn.q_norm")
        k = g.rms_norm(k, as_is(tensor[f"{prefix}attn.k_norm.weight"]), config.layer_norm_eps, "attn.k_norm")
        q, k, v = (g.reshape(part, [0, 0, heads, head_dim]) for part in (q, k, v))
    else:
        q, k, v = g.op("Split", g.reshape(qkv, [0, 0, 3 * heads, head_dim]), axis=2, num_outputs=3, outputs=3)
    mixed = g.lowering.attention(g, q, k, v, EncoderHeads(heads, head_dim, head_dim, head_dim**-0.5))
    proj_weight, proj_bias = (scaled(f"{prefix}attn.proj.{part}", f"{prefix}ls1") for part in ("weight", "bias"))
    x = g.op("Add", x, g.linear(mixed, proj_weight, proj_bias, "attn.proj"))
    up = _linear(g, checkpoint, norm(x, "norm2"), f"{prefix}mlp.fc1", "mlp.fc1")
    fc2_weight, fc2_bias = (scaled(f"{prefix}mlp.fc2.{part}", f"{prefix}ls2") for part in ("weight", "bias"))
    return g.op("Add", x, g.linear(g.lowering.gelu(g, up), fc2_weight, fc2_bias, "mlp.fc2"))


def _linear(g: GraphBuilder, checkpoint: Checkpoint, x: str, source: str, name: str) -> str:
    tensor = checkpoint.main
    return g.linear(x, as_is(tensor[f"{source}.weight"]), as_is(tensor[f"{source}.bias"]), name)
