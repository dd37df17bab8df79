"""Gather what the runtime has to know from a checkpoint."""

from __future__ import annotations

from tokenizers import Tokenizer

from vita_edge.engines.bundle.facts import (
    AudioFacts,
    CodecFacts,
    LlmFacts,
    ModelFacts,
    SpeechFacts,
    TokenFacts,
    VisionFacts,
)

from .checkpoint.open_checkpoint import Checkpoint
from .receptive_field import receptive_field
from .tokenizer.tokenizer_check import checked_tokenizer, words_that_end_replies
from .weights.weight import padded_head_dim

__all__ = ["model_facts"]

HANDS = {"state_text": "☜", "state_speech": "☞", "state_noise": "☟"}


def model_facts(checkpoint: Checkpoint) -> ModelFacts:
    """Everything that the manifest says about the model.

    Raises:
        BadCheckpoint: the tokenizer does not fit the model.
    """
    config = checkpoint.config
    tokenizer = checked_tokenizer(
        checkpoint.tokenizer_json(), checkpoint.path, config.llm.vocab_rows, config.llm.eos_token_ids
    )
    checkpoint.notes.extend(words_that_end_replies(tokenizer, config.llm.eos_token_ids))
    vocab_size = tokenizer.get_vocab_size(with_added_tokens=True)
    left, right = receptive_field(
        config.codec.upsample_rates,
        config.codec.upsample_kernel_sizes,
        config.codec.resblock_kernel_sizes,
        config.codec.resblock_dilation_sizes,
        config.codec.resblock,
    )
    return ModelFacts(
        name=config.name,
        llm=LlmFacts(
            layers=config.llm.layers,
            hidden_size=config.llm.hidden_size,
            kv_heads=config.llm.kv_heads,
            head_dim=padded_head_dim(config.llm.head_dim),
            vocab_size=vocab_size,
            context_tokens=config.llm.max_positions,
            prompt_limit_tokens=min(config.llm.prompt_limit, config.llm.max_positions),
            repetition_penalty=config.llm.repetition_penalty,
            sampling=config.llm.sampling,
        ),
        vision=VisionFacts(
            tile_size=config.vision.image_size,
            tokens_per_tile=(config.vision.grid // 2) ** 2,
            min_tiles=config.vision.min_tiles,
            max_tiles=config.vision.max_tiles,
            use_thumbnail=config.vision.use_thumbnail,
            pad_frames=config.vision.pad_frames,
            image_mean=config.vision.image_mean,
            image_std=config.vision.image_std,
        ),
        audio=AudioFacts(
            sample_rate_hz=16_000,
            mel_bins=config.audio.mel_bins,
            frame_length_ms=config.audio.frame_length_ms,
            frame_shift_ms=config.audio.frame_shift_ms,
            adapter_kernel=config.audio.adapter_kernel,
            prompt_rows=config.audio.prompt_rows,
            chunk_size=config.audio.chunk_size,
            left_chunks=config.audio.left_chunks,
        ),
        speech=SpeechFacts(
            width=config.speech.width,
            vectors_per_token=config.vectors_per_token,
            layers=config.speech.layers,
            heads=config.speech.heads,
            head_dim=padded_head_dim(config.speech.head_dim),
            codes=config.speech.codes,
            context_tokens=config.speech_context,
        ),
        codec=CodecFacts(
            sample_rate_hz=config.codec.sample_rate_hz,
            samples_per_code=config.codec.samples_per_code,
            left_context=left,
            right_context=right,
            streams=config.codec.streams,
        ),
        tokens=_token_facts(checkpoint, tokenizer),
    )


def _token_facts(checkpoint: Checkpoint, tokenizer: Tokenizer) -> TokenFacts:
    def single(glyph: str) -> int | None:
        ids = tokenizer.encode(glyph, add_special_tokens=False).ids
        return ids[0] if len(ids) == 1 else None

    ids = tokenizer.get_vocab(with_added_tokens=True)
    start, end = ids["<|im_start|>"], ids["<|im_end|>"]
    states = {name: single(glyph) for name, glyph in HANDS.items()}
    if absent := [HANDS[name] for name, number in states.items() if number is None]:
        note = (
            f"The tokenizer has no single token for {' '.join(absent)}: whether speech or noise was heard is not told."
        )
        if note not in checkpoint.notes:
            checkpoint.notes.append(note)
    # the command line program also stops where a next turn would begin
    stop = tuple(dict.fromkeys([end, *checkpoint.config.llm.eos_token_ids, start]))
    return TokenFacts(im_start=start, im_end=end, stop=stop, **states)
