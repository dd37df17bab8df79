"""What every session over one opened bundle shares: weights, tokenizer, facts, and who may run a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vita_edge.engines.bundle.facts import ModelFacts

from ..decoding.language_model import LanguageModel
from ..encoders.encoders import Encoders
from ..speech.clause_synthesis import Synthesizer
from ..text.tokenizer import Tokenizer
from .scheduler import Scheduler

__all__ = ["CACHE_VALUE_BYTES", "OpenedModel", "session_cache_bytes"]

CACHE_VALUE_BYTES = 4
"""Caches are float32."""


@dataclass(frozen=True)
class OpenedModel:
    """Weights once; a session has its own of what remembers: a KV cache, and the cache of the speech decoder."""

    facts: ModelFacts
    prompts: Mapping[str, Mapping[str, str]]
    """System prompts: style → name → text."""
    tokenizer: Tokenizer
    encoders: Encoders
    new_language_model: Callable[[int], LanguageModel]
    """From positions to a language model with an empty KV cache."""
    context_tokens: Callable[[int | None, int], int]
    """From what was requested, and the longest reply, to the positions of a KV cache."""
    new_synthesizer: Callable[[], Synthesizer]
    """Makes a synthesizer with a cache of its own."""
    scheduler: Scheduler = field(default_factory=Scheduler)


def session_cache_bytes(facts: ModelFacts, context_tokens: int, value_bytes: int = CACHE_VALUE_BYTES) -> int:
    """Bytes of the two KV caches of a session: that of the language model for ``context_tokens``, and that of
    speech."""
    llm, speech = facts.llm, facts.speech
    text = 2 * llm.layers * llm.kv_heads * llm.head_dim * context_tokens
    return value_bytes * (text + 2 * speech.layers * speech.heads * speech.head_dim * speech.context_tokens)
