"""What the runtime has to know about a model: plain frozen values, read from the checkpoint's own files at export.

Nothing here is a constant of VITA-1.5: two checkpoints may differ in every field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..reading.typed import build_record

__all__ = [
    "AUDIO_TOKEN_MS",
    "ENCODER_STEP_MS",
    "AudioFacts",
    "CodecFacts",
    "LlmFacts",
    "ModelFacts",
    "SamplingFacts",
    "SpeechFacts",
    "TokenFacts",
    "VisionFacts",
]


ENCODER_STEP_MS, AUDIO_TOKEN_MS = 40, 80
"""Audio under a step of the audio encoder, and under a token of its adapter."""


@dataclass(frozen=True)
class SamplingFacts:
    """How the checkpoint's ``generation_config.json`` advises to draw. The reference takes the most likely token."""

    temperature: float = 0.0
    """0 is greedy."""
    top_k: int = 0
    """0 draws from all tokens."""
    top_p: float = 1.0


@dataclass(frozen=True)
class LlmFacts:
    """The language model."""

    layers: int
    hidden_size: int
    kv_heads: int
    head_dim: int
    """Width of a head in the KV cache (padded to a multiple of 16 where the checkpoint's is not)."""
    vocab_size: int
    """Columns of the logits: ids that the tokenizer knows. Padding rows of the checkpoint are left behind."""
    context_tokens: int
    """Positions that the graph can address."""
    prompt_limit_tokens: int
    """A spliced prompt longer than this is refused (the reference silently cuts its end off)."""
    repetition_penalty: float = 1.0
    sampling: SamplingFacts = SamplingFacts()


@dataclass(frozen=True)
class VisionFacts:
    """Pictures: how they are cut, and what a tile costs."""

    tile_size: int
    tokens_per_tile: int
    min_tiles: int
    max_tiles: int
    use_thumbnail: bool
    pad_frames: bool
    """Untiled pictures and video frames are padded to a square (else centre-cropped)."""
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]


@dataclass(frozen=True)
class AudioFacts:
    """Hearing: the filter bank and what a clip costs."""

    sample_rate_hz: int
    mel_bins: int
    frame_length_ms: float
    frame_shift_ms: float
    adapter_kernel: int
    prompt_rows: int
    """Learned rows that the graph puts before every clip."""
    chunk_size: int
    """Attention chunk of the encoder in steps of 40 ms; 0 or less is full attention."""
    left_chunks: int

    def encoder_steps(self, frames: int) -> int:
        """Steps after the two strided convolutions, or 0 when the clip is too short for one."""
        first = (frames - 3) // 2 + 1
        return max((first - 3) // 2 + 1, 0) if first >= 3 else 0

    def positions(self, frames: int) -> int:
        """Prompt positions of a clip of ``frames`` filter bank frames."""
        steps = self.encoder_steps(frames)
        return (steps - 1) // 2 + 1 + self.prompt_rows if steps else 0

    def settled_steps(self, frames: int) -> int:
        """Encoder steps of the first ``frames`` of a clip that stay the same however it goes on: those whose attention
        chunk is complete. 0 with full attention, where every step sees the end of the clip."""
        return self.encoder_steps(frames) // self.chunk_size * self.chunk_size if self.chunk_size > 0 else 0

    def settled_positions(self, frames: int) -> int:
        """Positions of the first ``frames`` of a clip that stay the same however it goes on: those for which all steps
        under the adapter's kernel are settled.

        0 for a kernel of 1, too, which leaves steps out and so cannot be moved on from row to row.
        """
        settled = self.settled_steps(frames)
        if settled < self.adapter_kernel or self.adapter_kernel < 2:
            return 0
        return (settled - self.adapter_kernel) // 2 + 1 + self.prompt_rows


@dataclass(frozen=True)
class SpeechFacts:
    """The speech decoder: text embeddings in, codes out."""

    width: int
    """Width of a vector of ``text_embeds``; a token's embedding is cut into ``hidden_size / width`` of them."""
    vectors_per_token: int
    layers: int
    heads: int
    head_dim: int
    codes: int
    """Ids 0 .. codes-1 are sound; the four after them are bos, sos, end and padding."""
    context_tokens: int

    @property
    def bos(self) -> int:
        return self.codes

    @property
    def sos(self) -> int:
        return self.codes + 1

    @property
    def end(self) -> int:
        return self.codes + 2


@dataclass(frozen=True)
class CodecFacts:
    """The codec: codes in, waveform out."""

    sample_rate_hz: int
    samples_per_code: int
    left_context: int
    """Codes to the left that can influence the samples of a code."""
    right_context: int
    """Codes to the right that can influence the samples of a code."""
    streams: int
    """Codes per frame; the speech decoder speaks one stream."""


@dataclass(frozen=True)
class TokenFacts:
    """Special ids."""

    im_start: int
    im_end: int
    state_text: int | None
    """☜: the question was text."""
    state_speech: int | None
    """☞: the question was speech, and is answered."""
    state_noise: int | None
    """☟: noise, or not meant for the assistant; the reply is not spoken."""
    stop: tuple[int, ...]
    """Ids that end a reply."""


@dataclass(frozen=True)
class ModelFacts:
    """Everything above, as one value that is written into the manifest."""

    name: str
    llm: LlmFacts
    vision: VisionFacts
    audio: AudioFacts
    speech: SpeechFacts
    codec: CodecFacts
    tokens: TokenFacts

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelFacts:
        """Rebuild the facts from a manifest.

        Raises:
            ValueError: a field is missing or has the wrong type; the message names it.
        """
        return build_record(cls, data, "model")
