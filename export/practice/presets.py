"""Sizes of practice checkpoints: ``tiny`` for tests and the demo, ``half`` for small devices, ``full`` as released."""

from __future__ import annotations

from dataclasses import replace

from ..checkpoint.config import AudioConfig, CheckpointConfig, CodecConfig, LlmConfig, SpeechConfig, VisionConfig
from .tokenizer import practice_tokenizer

__all__ = ["PRESETS", "preset"]

PRESETS = ("tiny", "half", "full")

_FULL = CheckpointConfig(
    name="practice/full",
    llm=LlmConfig(
        hidden_size=3584,
        intermediate_size=18944,
        layers=28,
        heads=28,
        kv_heads=4,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        vocab_rows=152064,
        tied=False,
        max_positions=32768,
        prompt_limit=6200,
        eos_token_ids=(151645,),
        repetition_penalty=1.0,
    ),
    vision=VisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        layers=24,
        heads=16,
        image_size=448,
        patch_size=14,
        layer_norm_eps=1e-6,
        norm_type="layer_norm",
        qk_normalization=False,
        qkv_bias=True,
        image_mean=(0.485, 0.456, 0.406),
        image_std=(0.229, 0.224, 0.225),
        min_tiles=1,
        max_tiles=12,
        use_thumbnail=True,
        pad_frames=False,
    ),
    audio=AudioConfig(
        mel_bins=80,
        frame_length_ms=25,
        frame_shift_ms=10,
        conv_width=1024,
        hidden_size=1024,
        intermediate_size=4096,
        layers=24,
        heads=16,
        chunk_size=4,
        left_chunks=16,
        dynamic_chunks=False,
        adapter_kernel=5,
        adapter_norm="layer",
        adapter_gelu=True,
        prompt_rows=0,
    ),
    speech=SpeechConfig(width=896, codes=1024, layers=4, heads=14, intermediate_size=4864),
    codec=CodecConfig(
        resblock="1",
        upsample_rates=(8, 5, 5, 3),
        upsample_kernel_sizes=(16, 11, 11, 5),
        upsample_initial_channel=512,
        resblock_kernel_sizes=(3, 7, 11),
        resblock_dilation_sizes=((1, 3, 5),) * 3,
        sample_rate_hz=24000,
        n_codes=1024,
        n_code_groups=1,
        residual_layers=1,
        global_code_num=8,
        global_tokens=(909, 370, 944, 984, 251, 37, 995, 481),
    ),
)


def preset(name: str) -> CheckpointConfig:
    """The sizes and options of one of ``PRESETS``."""
    if name == "full":
        return _FULL
    return _half() if name == "half" else _tiny()


def _half() -> CheckpointConfig:
    """Qwen2.5-0.5B's language model; all else as in the release."""
    llm = replace(
        _FULL.llm,
        hidden_size=896,
        intermediate_size=4864,
        layers=24,
        heads=14,
        kv_heads=2,
        vocab_rows=151936,
        tied=True,
    )
    return replace(_FULL, name="practice/half", llm=llm)


def _tiny() -> CheckpointConfig:
    rows = 640
    llm = replace(
        _FULL.llm,
        hidden_size=64,
        intermediate_size=160,
        layers=2,
        heads=4,
        kv_heads=2,
        vocab_rows=rows,
        max_positions=4096,
        prompt_limit=3072,
        eos_token_ids=(practice_tokenizer(rows).added["<|im_end|>"],),
    )
    codec = replace(
        _FULL.codec,
        upsample_initial_channel=64,
        resblock_kernel_sizes=(3, 5),
        resblock_dilation_sizes=((1, 3, 5),) * 2,
        n_codes=256,
        global_tokens=(9, 37, 94, 98, 251, 3, 195, 48),
    )
    return CheckpointConfig(
        name="practice/tiny",
        llm=llm,
        vision=replace(_FULL.vision, image_size=112, hidden_size=32, intermediate_size=64, layers=2, heads=2),
        audio=replace(_FULL.audio, conv_width=32, hidden_size=32, intermediate_size=64, layers=2, heads=2),
        speech=SpeechConfig(width=32, codes=256, layers=2, heads=2, intermediate_size=64),
        codec=codec,
    )
