"""What a checkpoint's config files say, as plain frozen values. Read by :mod:`.checkpoint`, used by the graphs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vita_edge.engines.bundle.facts import SamplingFacts

__all__ = ["AudioConfig", "CheckpointConfig", "CodecConfig", "LlmConfig", "SpeechConfig", "VisionConfig"]


@dataclass(frozen=True)
class LlmConfig:
    """``config.json`` (and ``generation_config.json``)."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    rms_norm_eps: float
    rope_theta: float
    vocab_rows: int
    """Rows of the embedding; the tokenizer may know fewer ids."""
    tied: bool
    max_positions: int
    prompt_limit: int
    """tokenizer_model_max_length"""
    eos_token_ids: tuple[int, ...]
    repetition_penalty: float
    sampling: SamplingFacts = field(default_factory=SamplingFacts)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.heads


@dataclass(frozen=True)
class VisionConfig:
    """The vision folder's ``config.json`` and ``preprocessor_config.json``, and the picture keys of ``config.json``."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    image_size: int
    """Side of a tile in pixels."""
    patch_size: int
    layer_norm_eps: float
    norm_type: str
    """layer_norm or rms_norm"""
    qk_normalization: bool
    qkv_bias: bool
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    min_tiles: int
    max_tiles: int
    use_thumbnail: bool
    pad_frames: bool
    """``image_aspect_ratio`` is ``pad``."""

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class AudioConfig:
    """The audio folder's ``train.yaml``, and the prompt keys of ``config.json``."""

    mel_bins: int
    frame_length_ms: float
    frame_shift_ms: float
    conv_width: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    chunk_size: int
    """0 or less: every step sees every other (also set for ``transformer-dynamic-chunks: true``)."""
    left_chunks: int
    dynamic_chunks: bool
    """The reference draws random chunks; this was mapped to full attention, and the export says so."""
    adapter_kernel: int
    adapter_norm: str
    """layer or batch"""
    adapter_gelu: bool
    """gelu (exact), else ReLU."""
    prompt_rows: int
    """Learned rows before every clip; 0 without ``audio_prompt_finetune``."""

    @property
    def conv_bins(self) -> int:
        """Frequencies that are left of ``mel_bins`` after the two strided 3x3 convolutions (80 → 39 → 19)."""
        first = (self.mel_bins - 3) // 2 + 1
        return (first - 3) // 2 + 1


@dataclass(frozen=True)
class SpeechConfig:
    """``vita_tts_ckpt/decoder/model.json``."""

    width: int
    codes: int
    layers: int
    heads: int
    intermediate_size: int

    @property
    def pre_layers(self) -> int:
        return self.layers // 2

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class CodecConfig:
    """``vita_tts_ckpt/codec/model.json``."""

    resblock: str
    """1 or 2"""
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    """For each kernel, the dilations in use: three for type 1, two for type 2."""
    sample_rate_hz: int
    n_codes: int
    n_code_groups: int
    residual_layers: int
    global_code_num: int
    global_tokens: tuple[int, ...]

    @property
    def samples_per_code(self) -> int:
        return math.prod(self.upsample_rates)

    @property
    def streams(self) -> int:
        """Codes of one frame."""
        return self.n_code_groups * self.residual_layers

    def channels(self, stage: int) -> int:
        """Width before upsampling stage ``stage``; after the last one with ``stage = len(upsample_rates)``."""
        return self.upsample_initial_channel >> stage


@dataclass(frozen=True)
class CheckpointConfig:
    name: str
    llm: LlmConfig
    vision: VisionConfig
    audio: AudioConfig
    speech: SpeechConfig
    codec: CodecConfig

    @property
    def vectors_per_token(self) -> int:
        """Vectors of the speech decoder that a row of the token table is cut into."""
        return self.llm.hidden_size // self.speech.width

    @property
    def speech_context(self) -> int:
        """Positions of the speech decoder: a reply of 1024 tokens without a single full stop, and 1000 codes."""
        return 1024 * (self.vectors_per_token + 1)
