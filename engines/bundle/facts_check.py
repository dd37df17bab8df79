"""Whether what a manifest says of a model can be true: ranges of numbers, and sizes that have to agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from .facts import ModelFacts, TokenFacts

__all__ = ["check_facts", "check_prompts"]

MAX_SIZE = 2**31
"""No size, length or id of a model is larger."""
MAX_MS = 10_000
FLOATS = ("audio.frame_length_ms", "audio.frame_shift_ms", "llm.repetition_penalty")
MAY_BE_NEGATIVE = ("audio.chunk_size", "audio.left_chunks")
MAY_BE_ZERO = ("audio.prompt_rows", "codec.left_context", "codec.right_context")
PROMPTS = {"command_line": ("image", "video", "lang"), "live": ("audio", "image", "video")}
"""Style → its system prompts."""


def check_facts(facts: ModelFacts, rows: int, columns: int) -> None:
    """``rows`` and ``columns`` are those of the token table.

    Raises:
        ValueError: what cannot be, in words.
    """
    for path, value in _numbers(facts):
        if path in FLOATS:
            possible = 0 < value < MAX_MS
        else:  # a size of a component, a count, or an id; what lies deeper is checked where it is used
            minimum = 0 if path in MAY_BE_ZERO or path.startswith("tokens.") else 1
            whole = isinstance(value, int) and path.count(".") == 1 and path not in MAY_BE_NEGATIVE
            possible = minimum <= value < MAX_SIZE if whole else True
        if not possible:
            raise ValueError(f"model.{path} is {value:g}, which cannot be")
    for problem in _disagreements(facts, rows, columns):
        raise ValueError(problem)


def check_prompts(prompts: Any) -> Mapping[str, Mapping[str, str]]:
    """Raises ValueError when a prompt is missing or no text."""
    for style, names in PROMPTS.items():
        texts = prompts.get(style) if isinstance(prompts, Mapping) else None
        for name in names:
            if not isinstance(texts, Mapping) or not isinstance(texts.get(name), str):
                raise ValueError(f"prompts.{style}.{name} is no text")
    return prompts


def _disagreements(facts: ModelFacts, rows: int, columns: int) -> Iterator[str]:
    llm, vision, speech, tokens = facts.llm, facts.vision, facts.speech, facts.tokens
    if columns != llm.hidden_size:
        yield f"model.llm.hidden_size is {llm.hidden_size}, and the token table has {columns} columns"
    if rows != llm.vocab_size:
        yield f"model.llm.vocab_size is {llm.vocab_size}, and the token table has {rows} rows"
    if speech.width * speech.vectors_per_token != llm.hidden_size:
        yield (
            f"model.speech: {speech.vectors_per_token} vectors of {speech.width} do not make a token of "
            f"{llm.hidden_size}"
        )
    if len(vision.image_mean) != 3 or len(vision.image_std) != 3 or min(vision.image_std) <= 0:
        yield "model.vision.image_mean and image_std have to be three numbers each, one a colour"
    if vision.min_tiles > vision.max_tiles:
        yield f"model.vision.min_tiles is {vision.min_tiles}, more than max_tiles, {vision.max_tiles}"
    strange = [number for number in _ids(tokens) if number >= llm.vocab_size]
    if strange:
        yield f"model.tokens names the id {strange[0]}, and there are {llm.vocab_size}"
    if llm.prompt_limit_tokens > llm.context_tokens:
        yield f"model.llm.prompt_limit_tokens is {llm.prompt_limit_tokens}, more than context_tokens"


def _ids(tokens: TokenFacts) -> list[int]:
    single = (tokens.im_start, tokens.im_end, tokens.state_text, tokens.state_speech, tokens.state_noise)
    return [number for number in (*single, *tokens.stop) if number is not None]


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, int | float]]:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{path}.{field.name}" if path else field.name)
    elif isinstance(value, tuple):
        for entry in value:
            yield from _numbers(entry, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value
