"""Every key of a config file: used, of no consequence, or one that changes the arithmetic and so has to be neutral.

What is in no list is named in a note, unless it says nothing: a key that nobody understands is never dropped silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .config_file import ConfigFile

__all__ = [
    "CODEC",
    "FBANK",
    "GENERATION",
    "MAIN",
    "PREPROCESSOR",
    "ROPE",
    "SAMPLING",
    "TRANSFORMER",
    "VISION",
    "KnownKeys",
    "account_for",
]

_SAYS_NOTHING: tuple[Any, ...] = (None, False, "", [], {}, 0)
_TRAINING = (
    r"_.*|architectures|auto_map|model_type|transformers_version|torch_dtype|dtype|initializer_(range|factor)|use_cache|"
    r".*dropout.*|drop_path_rate|(un)?freeze_.*|tune_.*|.*_tuning|.*_lr|.*learning_rate|use_flash_attn|output_.*|"
    r"return_dict.*|is_(encoder_)?decoder|is_encoder_decoder|add_cross_attention|cross_attention.*|tie_encoder_decoder|"
    r"finetuning_task|id2label|label2id|num_labels|problem_type|task_specific_params|tokenizer_class|prefix|"
    r"bos_token_id|pad_token_id|sep_token_id|unk_token_id|decoder_start_token_id|pruned_heads|torchscript|use_bfloat16|"
    r"tf_legacy_loss|gradient_checkpointing|attn_implementation|chunk_size_feed_forward|pretraining_tp"
)


@dataclass(frozen=True)
class KnownKeys:
    """The keys of one file or table."""

    used: frozenset[str]
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Key → the values that change nothing; null is always one."""
    idle: str = r"(?!)"
    """Pattern of keys that only training, or nobody, looks at."""


def account_for(c: ConfigFile, known: KnownKeys, notes: list[str]) -> None:
    """Refuse what changes the arithmetic and is not built here; note what nobody knows.

    Raises:
        BadCheckpoint: a key has another value than its neutral ones.
    """
    strange = []
    for key, value in c.values.items():
        if key in known.used or re.fullmatch(known.idle, str(key)):
            continue
        if key in known.neutral:
            if value is not None and value not in known.neutral[key]:
                requested = " or ".join(map(repr, known.neutral[key])) or "null"
                raise c.refusal(key, f"It changes the arithmetic; only {requested} is supported, as VITA-1.5 has it.")
        elif value not in _SAYS_NOTHING:
            strange.append(f"{key} = {value!r:.60}")
    if strange:
        notes.append(
            f"{c.file.name} has settings that are not understood here: {', '.join(strange[:8])}"
            + (f" and {len(strange) - 8} more" if strange[8:] else "")
            + ". They were left out; if they change what the model computes, its bundle is wrong."
        )


MAIN = KnownKeys(
    used=frozenset(
        [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "rms_norm_eps",
            "rope_theta",
            "rope_scaling",
            "rope_parameters",
            "hidden_act",
            "vocab_size",
            "tie_word_embeddings",
            "max_position_embeddings",
            "tokenizer_model_max_length",
            "eos_token_id",
            "head_dim",
            "use_sliding_window",
            "layer_types",
            "mm_vision_tower",
            "mm_audio_encoder",
            "mm_projector_type",
            "mm_hidden_size",
            "image_aspect_ratio",
            "audio_prompt_finetune",
            "audio_prompt_num",
            "min_dynamic_patch",
            "max_dynamic_patch",
            "use_thumbnail",
            "text_config",
            "vision_config",
            "audio_config",
        ]
    ),
    neutral={
        "quantization_config": (),
        "dual_chunk_attention_config": (),
        "partial_rotary_factor": (1, 1.0),
        "rope_interleaved": (False,),
        "use_mrope": (False,),
        "attention_bias": (True,),
        "mlp_bias": (False,),
        "use_qk_norm": (False,),
        "qk_norm": (False,),
        "attn_logit_softcapping": (),
        "final_logit_softcapping": (),
        "logits_soft_cap": (),
        "logit_scale": (1, 1.0),
        "logits_scaling": (1, 1.0),
        "embedding_multiplier": (1, 1.0),
        "scale_emb": (1, 1.0),
        "residual_multiplier": (1, 1.0),
        "attention_multiplier": (),
        "query_pre_attn_scalar": (),
        "num_experts": (0, 1),
        "num_local_experts": (0, 1),
        "no_rope_layers": ([],),
        "use_s2": (False,),
        "mm_use_im_start_end": (False,),
        "mm_use_im_patch_token": (False,),
    },
    idle=_TRAINING
    + r"|tokenizer_padding_side|sliding_window|max_window_layers|use_mm_proj|image_token_index|audio_token_index|"
    r"mm_vision_select_(layer|feature)|mm_patch_merge_type|image_grid_pinpoints|continuous_training|vit_model_name|"
    r"vocab_size_.*|torch_.*|unsloth.*|use_.*_kernel",
)
VISION = KnownKeys(
    used=frozenset(
        [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "image_size",
            "patch_size",
            "layer_norm_eps",
            "norm_type",
            "qk_normalization",
            "qkv_bias",
            "hidden_act",
            "num_channels",
        ]
    ),
    neutral={
        "use_rope": (False,),
        "use_register_tokens": (False,),
        "num_register_tokens": (0,),
        "layerscale_value": (),
    },
    idle=_TRAINING + r"|projection_dim|select_layer|ps_version|downsample_ratio|template|pad2square|"
    r"(min|max)_dynamic_patch|dynamic_image_size|use_thumbnail|use_mean_pooling|use_backbone_lora|use_llm_lora",
)
PREPROCESSOR = KnownKeys(
    used=frozenset(["size", "crop_size", "image_mean", "image_std", "resample"]),
    neutral={
        "do_rescale": (True,),
        "do_normalize": (True,),
        "do_resize": (True,),
        "do_convert_rgb": (True, False),
        "rescale_factor": (1 / 255, 0.00392156862745098),
    },
    idle=r"_.*|do_center_crop|do_pad|feature_extractor_type|image_processor_type|processor_class|auto_map|cmvn_.*|"
    r"valid_processor_keys|data_format|input_data_format|default_to_square|device|return_tensors|disable_grouping",
)
ROPE = KnownKeys(
    used=frozenset(("rope_theta", "rope_type", "type")),
    neutral={"factor": (1, 1.0), "partial_rotary_factor": (1, 1.0), "mrope_section": ()},
    idle=r"original_max_position_embeddings",
)
SAMPLING = (
    *("min_p", "typical_p", "num_beams", "no_repeat_ngram_size"),
    *("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "forced_bos_token_id", "forced_eos_token_id"),
    *("length_penalty", "penalty_alpha", "encoder_repetition_penalty", "exponential_decay_length_penalty"),
)
"""Keys of generation_config.json that choose tokens."""
GENERATION = KnownKeys(
    used=frozenset(("eos_token_id", "repetition_penalty", "do_sample", "temperature", "top_k", "top_p")),
    idle=_TRAINING + r"|max_length|max_new_tokens|min_length|use_cache|cache_implementation",
)
FBANK = KnownKeys(
    used=frozenset(["num_mel_bins", "frame_length", "frame_shift", "dither"]),
    neutral={
        "window_type": ("povey",),
        "preemphasis_coefficient": (0.97,),
        "low_freq": (20, 20.0),
        "high_freq": (0, 0.0),
        "use_energy": (False,),
        "remove_dc_offset": (True,),
        "energy_floor": (0, 0.0, 1, 1.0),
        "use_log_fbank": (True,),
    },
)
TRANSFORMER = KnownKeys(
    used=frozenset(
        f"transformer-{key}"
        for key in [
            "input-layer",
            "pos-enc-class",
            "normalize-before",
            "concat-after",
            "positionwise-layer-type",
            "attention-dim",
            "attention-heads",
            "linear-units",
            "num-blocks",
            "chunk_size",
            "left_chunks",
            "dynamic-chunks",
        ]
    ),
    neutral={"transformer-activation-type": ("relu",), "transformer-macaron-style": (False,)},
    idle=r".*dropout-rate|transformer-(input|output)-dim|transformer-positionwise-conv-kernel_size",
)
CODEC = KnownKeys(
    used=frozenset(
        [
            "resblock",
            "upsample_rates",
            "upsample_kernel_sizes",
            "upsample_initial_channel",
            "resblock_kernel_sizes",
            "resblock_dilation_sizes",
            "sampling_rate",
            "n_code_groups",
            "residul_layer",
            "n_codes",
            "global_code_num",
            "global_tokens",
        ]
    ),
    neutral={"activation": ("leaky_relu",), "leaky_relu_slope": (0.1,)},
    idle=r"num_gpus|batch_size|.*learning_rate|adam_.*|lr_decay|seed|segment_size|num_workers|dist_config|.*_lambda|"
    r"global_feature_conv|num_mels|num_freq|n_fft|hop_size|win_size|fmin|fmax|fmax_for_loss|disc_.*",
)
