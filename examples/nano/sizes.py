"""How large the nano model is: the configuration of its checkpoint."""

from __future__ import annotations

from dataclasses import replace

from vita_edge.export.checkpoint.config import AudioConfig, CheckpointConfig, LlmConfig, VisionConfig
from vita_edge.export.practice.presets import preset

__all__ = ["HIDDEN", "checkpoint_config"]

HIDDEN = 256
"""Width of the language model and of its embedding table."""


def checkpoint_config(vocab_rows: int, end_id: int) -> CheckpointConfig:
    """Speech decoder and codec are those of the preset ``tiny`` here; the voice's own files take their place."""
    tiny = preset("tiny")
    llm = LlmConfig(
        hidden_size=HIDDEN,
        intermediate_size=512,
        layers=4,
        heads=4,
        kv_heads=2,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        vocab_rows=vocab_rows,
        tied=False,
        max_positions=2048,
        prompt_limit=1536,
        eos_token_ids=(end_id,),
        repetition_penalty=1.0,
    )
    vision: VisionConfig = replace(
        tiny.vision, hidden_size=128, intermediate_size=512, layers=3, heads=4, max_tiles=1, use_thumbnail=False
    )
    audio: AudioConfig = replace(
        tiny.audio, conv_width=80, hidden_size=144, intermediate_size=576, layers=5, heads=4, adapter_kernel=5
    )
    return replace(tiny, name="nano", llm=llm, vision=vision, audio=audio)
