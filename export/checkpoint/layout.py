"""Names and shapes of every tensor that a checkpoint must hold: for checking one, and for making one."""

from __future__ import annotations

from .config import AudioConfig, CheckpointConfig, CodecConfig, LlmConfig, SpeechConfig, VisionConfig

__all__ = ["AUDIO_TENSORS", "CMVN", "CODEC_WIDTH", "GLOBAL_WIDTH", "VISION_TENSORS", "Shapes", "expected_tensors"]

Shapes = dict[str, tuple[int, ...]]

VISION_TENSORS = "model.vision_tower.vision_tower."
AUDIO_TENSORS = "model.audio_encoder."
CMVN = "encoder.global_cmvn."
"""Prefix of the two buffers in the audio folder's ``final.pt``; behind ``AUDIO_TENSORS`` in the main shards."""
CODEC_WIDTH = 512
"""Width of a code's vector, all groups together; fixed in the reference."""
GLOBAL_WIDTH = 128
"""Width that the global tables share; fixed in the reference."""


def expected_tensors(config: CheckpointConfig) -> dict[str, Shapes]:
    """Name → shape for the parts ``main`` (shards), ``speech`` (decoder/final.pt) and ``codec`` (codec/final.pt)."""
    main = {
        **_llm(config.llm),
        **_under(VISION_TENSORS, _vision(config.vision)),
        **_linear("model.mm_projector.0", config.llm.hidden_size, 4 * config.vision.hidden_size),
        **_linear("model.mm_projector.2", config.llm.hidden_size, config.llm.hidden_size),
        **_under(AUDIO_TENSORS, _audio(config.audio, config.llm.hidden_size)),
    }
    return {"main": main, "speech": _speech(config.speech), "codec": _codec(config.codec)}


def _llm(c: LlmConfig) -> Shapes:
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    shapes: Shapes = {"model.embed_tokens.weight": (c.vocab_rows, c.hidden_size)}
    for i in range(c.layers):
        layer = {
            "input_layernorm.weight": (c.hidden_size,),
            **_linear("self_attn.q_proj", queries, c.hidden_size),
            **_linear("self_attn.k_proj", keys, c.hidden_size),
            **_linear("self_attn.v_proj", keys, c.hidden_size),
            "self_attn.o_proj.weight": (c.hidden_size, queries),
            "post_attention_layernorm.weight": (c.hidden_size,),
            **_gated_mlp(c.hidden_size, c.intermediate_size),
        }
        shapes |= _under(f"model.layers.{i}.", layer)
    shapes["model.norm.weight"] = (c.hidden_size,)
    if not c.tied:
        shapes["lm_head.weight"] = (c.vocab_rows, c.hidden_size)
    return shapes


def _vision(c: VisionConfig) -> Shapes:
    width = c.hidden_size
    shapes: Shapes = {
        "embeddings.class_embedding": (1, 1, width),
        "embeddings.patch_embedding.weight": (width, 3, c.patch_size, c.patch_size),
        "embeddings.patch_embedding.bias": (width,),
        "embeddings.position_embedding": (1, 1 + c.grid**2, width),
    }
    for i in range(c.layers):
        layer = {
            **_linear("attn.qkv", 3 * width, width, bias=c.qkv_bias),
            **_linear("attn.proj", width, width),
            **_linear("mlp.fc1", c.intermediate_size, width),
            **_linear("mlp.fc2", width, c.intermediate_size),
            **_norm("norm1", width, bias=c.norm_type == "layer_norm"),
            **_norm("norm2", width, bias=c.norm_type == "layer_norm"),
            "ls1": (width,),
            "ls2": (width,),
        }
        if c.qk_normalization:
            layer |= {"attn.q_norm.weight": (width,), "attn.k_norm.weight": (width,)}
        shapes |= _under(f"encoder.layers.{i}.", layer)
    return shapes


def _audio(c: AudioConfig, llm_width: int) -> Shapes:
    conv, width = c.conv_width, c.hidden_size
    shapes: Shapes = {f"{CMVN}mean": (c.mel_bins,), f"{CMVN}istd": (c.mel_bins,)}
    front = {
        "core.conv.0.weight": (conv, 1, 3, 3),
        "core.conv.0.bias": (conv,),
        "core.conv.2.weight": (conv, conv, 3, 3),
        "core.conv.2.bias": (conv,),
        **_linear("core.out.0", conv, conv * c.conv_bins),
    }
    shapes |= _under("encoder.enc.0.", front)
    shapes |= _under("encoder.enc.1.", {**_linear("embed.0", width, conv), **_norm("embed.1", width)})
    for i in range(c.layers):
        layer: Shapes = {
            "self_attn.pos_bias_u": (c.heads, width // c.heads),
            "self_attn.pos_bias_v": (c.heads, width // c.heads),
            "self_attn.linear_pos.weight": (width, width),
            **_linear("feed_forward.w_1", c.intermediate_size, width),
            **_linear("feed_forward.w_2", width, c.intermediate_size),
            **_norm("norm1", width),
            **_norm("norm2", width),
        }
        for name in ("q", "k", "v", "out"):
            layer |= _linear(f"self_attn.linear_{name}", width, width)
        shapes |= _under(f"encoder.enc.1.encoders.{i}.", layer)
    shapes |= _norm("encoder.enc.1.after_norm", width)
    shapes |= {"adpter.conv1d2.weight": (2 * width, width, c.adapter_kernel), "adpter.conv1d2.bias": (2 * width,)}
    shapes |= _norm("adpter.bn2", 2 * width)
    if c.adapter_norm == "batch":
        shapes |= {"adpter.bn2.running_mean": (2 * width,), "adpter.bn2.running_var": (2 * width,)}
    shapes |= _linear("adpter.project", llm_width, 2 * width)
    if c.prompt_rows:
        shapes["prompt_embeddings.weight"] = (c.prompt_rows, llm_width)
    return shapes


def _speech(c: SpeechConfig) -> Shapes:
    ids = c.codes + 4
    shapes: Shapes = {"embedding.weight": (ids, c.width)}
    stacks = [f"layers_pre_nn.{i}." for i in range(c.pre_layers)] + [f"layers.{i}." for i in range(c.layers)]
    for prefix in stacks:
        layer: Shapes = {
            **{f"self_attn.{name}_proj.weight": (c.width, c.width) for name in "qkvo"},
            **_gated_mlp(c.width, c.intermediate_size),
            "input_layernorm.weight": (c.width,),
            "post_attention_layernorm.weight": (c.width,),
        }
        shapes |= _under(prefix, layer)
    return shapes | _norm("norm", c.width, bias=False) | _linear("out_fnn", ids, c.width)


def _codec(c: CodecConfig) -> Shapes:
    shapes: Shapes = {}

    def conv(name: str, channels_out: int, *weight: int) -> None:
        shapes[f"generator.{name}.bias"] = (channels_out,)
        shapes[f"generator.{name}.weight_g"] = (weight[0], *(1 for _ in weight[1:]))
        shapes[f"generator.{name}.weight_v"] = weight

    conv("conv_pre", c.channels(0), c.channels(0), CODEC_WIDTH, 7)
    convolutions = ("convs1.0", "convs1.1", "convs1.2", "convs2.0", "convs2.1", "convs2.2")
    for i, kernel in enumerate(c.upsample_kernel_sizes):
        width = c.channels(i + 1)
        conv(f"ups.{i}", width, c.channels(i), width, kernel)
        for m, size in enumerate(c.resblock_kernel_sizes):
            block = f"resblocks.{i * len(c.resblock_kernel_sizes) + m}"
            for name in convolutions if c.resblock == "1" else ("convs.0", "convs.1"):
                conv(f"{block}.{name}", width, width, width, size)
    conv("conv_post", 1, 1, c.channels(len(c.upsample_rates)), 7)
    for layer in range(1, c.residual_layers + 1):
        table = f"quantizer.quantizer_modules{layer if layer > 1 else ''}"
        for j in range(c.n_code_groups):
            shapes[f"{table}.{j}.embedding.weight"] = (c.n_codes, CODEC_WIDTH // c.n_code_groups)
    for j in range(c.global_code_num):
        width = GLOBAL_WIDTH // c.global_code_num
        shapes[f"quantizer.quantizer_modules_globaltokens.{j}.embedding.weight"] = (c.n_codes, width)
    return shapes


def _linear(name: str, rows: int, columns: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (rows, columns)} | ({f"{name}.bias": (rows,)} if bias else {})


def _norm(name: str, width: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.{part}": (width,) for part in (("weight", "bias") if bias else ("weight",))}


def _gated_mlp(width: int, inner: int) -> Shapes:
    return {
        "mlp.gate_proj.weight": (inner, width),
        "mlp.up_proj.weight": (inner, width),
        "mlp.down_proj.weight": (width, inner),
    }


def _under(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}
