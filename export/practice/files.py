"""The config files of a checkpoint, written from plain values: the way back of :mod:`.read_config`."""

from __future__ import annotations

import json
from typing import Any

import yaml

from ..checkpoint.config import AudioConfig, CheckpointConfig, CodecConfig, LlmConfig, SpeechConfig, VisionConfig
from ..checkpoint.layout import GLOBAL_WIDTH

__all__ = ["AUDIO_FOLDER", "VISION_FOLDER", "config_files"]

AUDIO_FOLDER = "audio-encoder-Qwen2-7B-1107-weight-base-11wh-tunning"
VISION_FOLDER = "InternViT-300M-448px"


def config_files(config: CheckpointConfig, dtype: str) -> dict[str, str]:
    """Path inside the checkpoint → text, in the layout of the release; ``dtype`` is the hint in ``torch_dtype``."""
    files: dict[str, Any] = {
        "config.json": _main(config, dtype),
        "generation_config.json": _generation(config.llm),
        f"{VISION_FOLDER}/config.json": _vision(config.vision, dtype),
        f"{VISION_FOLDER}/preprocessor_config.json": _preprocessor(config.vision),
        f"{AUDIO_FOLDER}/global_cmvn": _statistics(config.audio.mel_bins),
        "vita_tts_ckpt/decoder/model.json": _speech(config.speech),
        "vita_tts_ckpt/codec/model.json": _codec(config.codec),
    }
    texts = {name: json.dumps(values, indent=2) for name, values in files.items()}
    return texts | {f"{AUDIO_FOLDER}/train.yaml": yaml.safe_dump(_train(config.audio, config.llm.hidden_size))}


def _main(c: CheckpointConfig, dtype: str) -> dict[str, Any]:
    return {
        "_name_or_path": c.name,
        "architectures": ["VITAQwen2ForCausalLM"],
        "audio_prompt_finetune": c.audio.prompt_rows > 0,
        "audio_prompt_num": c.audio.prompt_rows or None,
        "eos_token_id": c.llm.eos_token_ids[0] if c.llm.eos_token_ids else None,
        "hidden_act": "silu",
        "hidden_size": c.llm.hidden_size,
        "image_aspect_ratio": "pad" if c.vision.pad_frames else "square",
        "intermediate_size": c.llm.intermediate_size,
        "max_dynamic_patch": c.vision.max_tiles,
        "max_position_embeddings": c.llm.max_positions,
        "min_dynamic_patch": c.vision.min_tiles,
        "mm_audio_encoder": "VITA-MLLM/VITA-1.5_AudioEnc",
        "mm_hidden_size": 4 * c.vision.hidden_size,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": f"OpenGVLab/{VISION_FOLDER}",
        "model_type": "vita-Qwen2",
        "num_attention_heads": c.llm.heads,
        "num_hidden_layers": c.llm.layers,
        "num_key_value_heads": c.llm.kv_heads,
        "rms_norm_eps": c.llm.rms_norm_eps,
        "rope_theta": c.llm.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": c.llm.tied,
        "tokenizer_model_max_length": c.llm.prompt_limit,
        "torch_dtype": dtype,
        "use_sliding_window": False,
        "use_thumbnail": c.vision.use_thumbnail,
        "vocab_size": c.llm.vocab_rows,
    }


def _generation(c: LlmConfig) -> dict[str, Any]:
    ids = list(c.eos_token_ids)
    penalty = {} if c.repetition_penalty == 1 else {"repetition_penalty": c.repetition_penalty}
    return {"eos_token_id": ids[0] if len(ids) == 1 else ids, **penalty}


def _vision(c: VisionConfig, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["InternVisionModel"],
        "hidden_act": "gelu",
        "hidden_size": c.hidden_size,
        "image_size": c.image_size,
        "intermediate_size": c.intermediate_size,
        "layer_norm_eps": c.layer_norm_eps,
        "model_type": "intern_vit_6b",
        "norm_type": c.norm_type,
        "num_attention_heads": c.heads,
        "num_channels": 3,
        "num_hidden_layers": c.layers,
        "patch_size": c.patch_size,
        "qk_normalization": c.qk_normalization,
        "qkv_bias": c.qkv_bias,
        "torch_dtype": dtype,
    }


def _preprocessor(c: VisionConfig) -> dict[str, Any]:
    return {
        "crop_size": c.image_size,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": list(c.image_mean),
        "image_std": list(c.image_std),
        "resample": 3,
        "size": c.image_size,
    }


def _train(c: AudioConfig, llm_width: int) -> dict[str, Any]:
    transformer = {
        "attention-dim": c.hidden_size,
        "attention-heads": c.heads,
        "chunk_size": c.chunk_size,
        "concat-after": False,
        "dynamic-chunks": c.dynamic_chunks,
        "input-dim": c.conv_width,
        "input-layer": "linear",
        "left_chunks": c.left_chunks,
        "linear-units": c.intermediate_size,
        "normalize-before": True,
        "num-blocks": c.layers,
        "output-dim": c.hidden_size,
        "pos-enc-class": "rel-enc",
        "positionwise-layer-type": "linear",
    }
    subsampling = {"input-dim": c.mel_bins, "output-dim": c.conv_width, "rate": 4}
    fbank = {
        "dither": 0.0,
        "frame_length": c.frame_length_ms,
        "frame_shift": c.frame_shift_ms,
        "num_mel_bins": c.mel_bins,
    }
    return {
        "dataset_conf": {"fbank_conf": fbank, "resample_conf": {"resample_rate": 16000}},
        "encoder_conf": {
            "overview_conf": {
                "encoder-input-dim": c.mel_bins,
                "encoder-layer-config": "subsampling-transformer",
                "encoder-output-dim": c.hidden_size,
            },
            "para_conf": {
                "subsampling": {f"subsampling-{key}": value for key, value in subsampling.items()},
                "transformer": {f"transformer-{key}": value for key, value in transformer.items()},
            },
        },
        "input_dim": c.mel_bins,
        "is_json_cmvn": True,
        "model_conf": {
            "activation_func": "gelu" if c.adapter_gelu else "relu",
            "adpter_type": "subsampling",
            "enc_out_dim": c.hidden_size,
            "kernel_size": c.adapter_kernel,
            "llm_embed_dim": llm_width,
            "norm": c.adapter_norm,
        },
    }


def _statistics(mel_bins: int) -> dict[str, Any]:
    """Sums over a million frames with means around 12 and deviations around 3; other values than the shards hold."""
    frames, means = 1_000_000, [11 + 2 * i / mel_bins for i in range(mel_bins)]
    squares = [frames * (mean**2 + 3.2**2) for mean in means]
    return {"mean_stat": [frames * mean for mean in means], "var_stat": squares, "frame_num": frames}


def _speech(c: SpeechConfig) -> list[Any]:
    settings = {
        "idim": c.width,
        "kv_cache_prefix_finetune": 1,
        "odim": c.codes,
        "transformer_attention_dim": c.width,
        "transformer_attention_heads": c.heads,
        "transformer_linear_units": c.intermediate_size,
        "transformer_num_blocks": c.layers,
    }
    return [c.width, c.codes, settings]


def _codec(c: CodecConfig) -> dict[str, Any]:
    return {
        "resblock": c.resblock,
        "upsample_rates": c.upsample_rates,
        "upsample_kernel_sizes": c.upsample_kernel_sizes,
        "upsample_initial_channel": c.upsample_initial_channel,
        "resblock_kernel_sizes": c.resblock_kernel_sizes,
        "resblock_dilation_sizes": c.resblock_dilation_sizes,
        "sampling_rate": c.sample_rate_hz,
        "n_code_groups": c.n_code_groups,
        "residul_layer": c.residual_layers,
        "n_codes": c.n_codes,
        "global_code_num": c.global_code_num,
        "global_feature_conv": [GLOBAL_WIDTH, 64, GLOBAL_WIDTH, 3, 1],
        "global_tokens": c.global_tokens,
    }
