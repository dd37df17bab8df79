"""Audio encoder and adapter: filter bank to rows of the prompt (spec: audio in), in one go or piece by piece."""

from __future__ import annotations

import numpy as np

from vita_edge.engines.bundle.component_spec import AUDIO

from ..checkpoint.layout import AUDIO_TENSORS, CMVN
from ..checkpoint.open_checkpoint import Checkpoint
from ..lowerings.lowering import EncoderHeads, Lowering
from ..weights.formats import LinearFormat
from ..weights.weight import as_is, computed
from .audio_piece import AudioPiece
from .graph_builder import GraphBuilder, table

__all__ = ["audio_graph"]


def audio_graph(checkpoint: Checkpoint, linear: LinearFormat, lowering: Lowering | None = None) -> GraphBuilder:
    """fbank float32 [1, frames, mel_bins] (raw: CMVN is inside) → audio_embeds float32 [1, audio_tokens, hidden].

    The clip is fed whole, or in pieces of whole attention chunks: each ``present.*`` of a piece is the ``past.*`` of
    the next, empty before the first. A piece of n steps has the 4 n + 3 frames from 4 times its first step on.
    """
    config, hidden, tensor = checkpoint.config.audio, checkpoint.config.llm.hidden_size, checkpoint.main
    g = GraphBuilder(AUDIO.name, linear, lowering=lowering)
    fbank = g.input(*AUDIO.input("fbank", mel_bins=config.mel_bins))

    with g.scope("cmvn"):
        mean, istd = (  # in float32 for every backend: features lie near one another, far from zero
            g.weight(name, as_is(tensor[f"{AUDIO_TENSORS}{CMVN}{name}"]), dtype="float32") for name in ("mean", "istd")
        )
        x = g.inner(g.tap(g.op("Mul", g.op("Sub", fbank, mean), istd), "cmvn"))
    with g.scope("subsampling"):
        x = g.tap(_subsampling(g, checkpoint, x), "sub")
    with g.scope("piece"):
        piece = AudioPiece(g, config, g.length(x, 1))
    with g.scope("transformer"):
        x = g.tap(_transformer(g, checkpoint, x, piece), "enc")
    with g.scope("adapter"):
        x = g.tap(_adapter(g, checkpoint, x, piece), "adapter")
        if config.prompt_rows:
            prompt = tensor[f"{AUDIO_TENSORS}prompt_embeddings.weight"]
            rows = g.weight("prompt", computed((1, *prompt.shape), lambda: prompt.read()[None]))
            rows = g.op("Slice", rows, g.constant([0]), piece.if_first(config.prompt_rows), g.constant([1]))
            x = g.op("Concat", rows, x, axis=1)
        else:
            x = g.op("Identity", x)
    g.result(x, AUDIO.output, [1, "audio_tokens", hidden])
    return g


def _linear(g: GraphBuilder, checkpoint: Checkpoint, x: str, source: str, name: str) -> str:
    tensor = checkpoint.main
    return g.linear(
        x, as_is(tensor[f"{AUDIO_TENSORS}{source}.weight"]), as_is(tensor[f"{AUDIO_TENSORS}{source}.bias"]), name
    )


def _norm(g: GraphBuilder, checkpoint: Checkpoint, x: str, source: str, name: str, eps: float = 1e-5) -> str:
    tensor = checkpoint.main
    return g.layer_norm(
        x, as_is(tensor[f"{AUDIO_TENSORS}{source}.weight"]), as_is(tensor[f"{AUDIO_TENSORS}{source}.bias"]), eps, name
    )


def _subsampling(g: GraphBuilder, checkpoint: Checkpoint, x: str) -> str:
    """Two strided convolutions and a linear layer: [1, frames, mel] → [1, steps, width]; no padding in time."""
    tensor = checkpoint.main
    image = g.op("Unsqueeze", x, g.constant([1]))
    for index in (0, 2):
        source = f"{AUDIO_TENSORS}encoder.enc.0.core.conv.{index}"
        weight = g.convolution(f"conv.{index}.weight", as_is(tensor[f"{source}.weight"]))
        bias = g.weight(f"conv.{index}.bias", as_is(tensor[f"{source}.bias"]))
        image = g.op("Relu", g.op("Conv", image, weight, bias, strides=[2, 2]))
    # channels are the slow index of a flattened step
    flat = g.reshape(g.op("Transpose", image, perm=[0, 2, 1, 3]), [0, 0, -1])
    return _linear(g, checkpoint, flat, "encoder.enc.0.core.out.0", "out")


def _transformer(g: GraphBuilder, checkpoint: Checkpoint, x: str, piece: AudioPiece) -> str:
    config = checkpoint.config.audio
    width = config.hidden_size
    embedded = _linear(g, checkpoint, x, "encoder.enc.1.embed.0", "embed.0")
    embedded = g.op("Relu", _norm(g, checkpoint, embedded, "encoder.enc.1.embed.1", "embed.1"))
    x = g.scale(g.tap(embedded, "embed"), width**0.5)
    positions, visible = g.inner(_sinusoids(g, piece.steps, width)), piece.visible()
    for i in range(config.layers):
        with g.scope(f"layers.{i}"):
            source = f"encoder.enc.1.encoders.{i}"
            y = _norm(g, checkpoint, x, f"{source}.norm1", "norm1")
            x = g.op("Add", x, _attention(g, checkpoint, y, positions, visible, piece, i))
            y = _norm(g, checkpoint, x, f"{source}.norm2", "norm2")
            y = g.op("Relu", _linear(g, checkpoint, y, f"{source}.feed_forward.w_1", "feed_forward.w_1"))
            x = g.op("Add", x, _linear(g, checkpoint, y, f"{source}.feed_forward.w_2", "feed_forward.w_2"))
    return _norm(g, checkpoint, x, "encoder.enc.1.after_norm", "after_norm")


def _attention(
    g: GraphBuilder, checkpoint: Checkpoint, x: str, positions: str, visible: str | None, piece: AudioPiece, layer: int
) -> str:
    """Relative attention without shift: score = (q + u)·k + (q + v)·p, with p of the key's absolute position.

    As one product over twice the width: [q + u, q + v] · [k, p]. Past keys come with their p.
    """
    config, tensor, source = checkpoint.config.audio, checkpoint.main, f"encoder.enc.1.encoders.{layer}.self_attn"
    heads, head_dim = config.heads, config.hidden_size // config.heads
    q = g.reshape(_linear(g, checkpoint, x, f"{source}.linear_q", "q"), [0, 0, heads, head_dim])
    with_u = g.op("Add", q, g.weight("pos_bias_u", as_is(tensor[f"{AUDIO_TENSORS}{source}.pos_bias_u"])))
    with_v = g.op("Add", q, g.weight("pos_bias_v", as_is(tensor[f"{AUDIO_TENSORS}{source}.pos_bias_v"])))
    queries = g.op("Concat", with_u, with_v, axis=-1)
    k = g.reshape(_linear(g, checkpoint, x, f"{source}.linear_k", "k"), [0, 0, heads, head_dim])
    p = g.linear(positions, as_is(tensor[f"{AUDIO_TENSORS}{source}.linear_pos.weight"]), None, "pos")
    p = g.reshape(p, [0, 0, heads, head_dim])
    keys = piece.with_past(g.op("Concat", k, p, axis=-1), layer, "key")
    values = _linear(g, checkpoint, x, f"{source}.linear_v", "v")
    values = g.reshape(piece.with_past(values, layer, "value"), [0, 0, heads, head_dim])
    shape = EncoderHeads(heads, 2 * head_dim, head_dim, head_dim**-0.5)
    mixed = g.lowering.attention(g, queries, keys, values, shape, visible)
    return _linear(g, checkpoint, mixed, f"{source}.linear_out", "out")


def _sinusoids(g: GraphBuilder, steps: str, width: int) -> str:
    """Position table float32 [1, steps, width]: sin and cos alternate (computed, since a table for 200 s of sound
    would be 20 MB)."""
    exponent = np.arange(0, width, 2, dtype=np.float32) * np.float32(-(np.log(10000.0) / width))
    angle = g.op(
        "Mul",
        g.op("Unsqueeze", g.op("Cast", steps, to=1), g.constant([1])),
        g.weight("frequency", table(np.exp(exponent)), learned=False, dtype="float32"),
    )
    last = g.constant([-1])
    pairs = [g.op("Unsqueeze", g.op(function, angle), last) for function in ("Sin", "Cos")]
    return g.reshape(g.op("Concat", *pairs, axis=-1), [1, -1, width])


def _adapter(g: GraphBuilder, checkpoint: Checkpoint, x: str, piece: AudioPiece) -> str:
    """Halve the rate and widen to the language model: [1, steps, D] → [1, (steps - 1) // 2 + 1, hidden].

    A piece that is not the last begins with the rows that were left of the one before, and leaves those that are under
    the kernel of its next row.
    """
    config, tensor, width = checkpoint.config.audio, checkpoint.main, checkpoint.config.audio.hidden_size
    # all padding at the end, although the reference's variable says left
    shape = g.op("Concat", g.constant([1]), piece.if_last(config.adapter_kernel - 1), g.constant([width]), axis=0)
    x = piece.with_carried(x)
    padded = g.op("Concat", x, g.inner(g.op("ConstantOfShape", shape)), axis=1)
    y = g.op(
        "Conv",
        g.op("Transpose", padded, perm=[0, 2, 1]),
        g.convolution("conv.weight", as_is(tensor[f"{AUDIO_TENSORS}adpter.conv1d2.weight"])),
        g.weight("conv.bias", as_is(tensor[f"{AUDIO_TENSORS}adpter.conv1d2.bias"])),
        strides=[2],
    )
    y = g.op("Transpose", y, perm=[0, 2, 1])
    piece.hand_on(x, g.op("Mul", g.op("Shape", y, start=1, end=2), g.constant(2)))
    if config.adapter_norm == "batch":
        part = {
            name: tensor[f"{AUDIO_TENSORS}adpter.bn2.{name}"]
            for name in ("weight", "bias", "running_mean", "running_var")
        }
        shape = part["weight"].shape

        def gain() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return part["weight"].read() / np.sqrt(part["running_var"].read() + np.float32(1e-3))

        y = g.op("Mul", y, g.weight("norm.gain", computed(shape, gain)))
        y = g.op(
            "Add",
            y,
            g.weight("norm.shift", computed(shape, lambda: part["bias"].read() - part["running_mean"].read() * gain())),
        )
    else:
        y = _norm(g, checkpoint, y, "adpter.bn2", "norm", eps=1e-3)
    y = g.lowering.gelu(g, y) if config.adapter_gelu else g.op("Relu", y)
    return _linear(g, checkpoint, y, "adpter.project", "project")
