"""Greedy decoding of several prompts. A draft may guess tokens ahead: the answer is the same, in fewer passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .language import Cache, LanguageModel

__all__ = ["Decoded", "Draft", "decode"]

FIRST_GUESSES = 16

Draft = Callable[[int, list[int], int], list[int]]
"""``draft(prompt, tokens so far, count)``: at most ``count`` guesses of what comes next."""


@dataclass
class Decoded:
    """What one prompt was answered with."""

    tokens: list[int] = field(default_factory=list)
    """Greedy tokens, a stop token included."""
    logits: list[Tensor] = field(default_factory=list)
    """[words] of every step."""
    prefill_positions: list[int] = field(default_factory=list)
    prefill_logits: Tensor | None = None
    """[len(prefill_positions), words]"""


def decode(
    model: LanguageModel,
    prompts: Sequence[Tensor],
    max_tokens: int,
    *,
    stop: Collection[int] = (),
    draft: Draft = lambda prompt, tokens, count: [],
) -> list[Decoded]:
    """Answer all prompts ([tokens, hidden_size] each), at most ``max_tokens`` tokens each.

    A pass reads every layer once, for all prompts. Guesses of ``draft`` are checked in it as the next tokens of a
    prompt would be: those up to the first wrong one are kept, and one token more is known after it.
    """
    answers = [Decoded() for _ in prompts]
    sequences = [_Sequence(i, model.new_cache(), rows) for i, rows in enumerate(prompts)]
    open_ones = list(sequences)
    while open_ones:
        for sequence in open_ones:
            so_far = answers[sequence.index].tokens
            room = min(max_tokens - len(so_far) - 1, sequence.trust)
            sequence.guesses = draft(sequence.index, so_far, room)[:room] if room > 0 else []
        states = model.hidden([_fed(model, s) for s in open_ones], [s.cache for s in open_ones])
        for sequence, hidden in zip(open_ones, states):
            _accept(model, answers[sequence.index], sequence, hidden, max_tokens, stop)
        open_ones = [sequence for sequence in open_ones if not sequence.done]
    return answers


@dataclass
class _Sequence:
    index: int
    cache: Cache
    rows: Tensor
    """What the model has not read yet, without the guesses."""
    guesses: list[int] = field(default_factory=list)
    trust: int = FIRST_GUESSES
    """Guesses that are asked for: twice as many as were right, and one."""
    done: bool = False


def _fed(model: LanguageModel, sequence: _Sequence) -> Tensor:
    rows = sequence.rows
    return torch.cat([rows, model.embed(sequence.guesses).to(rows)]) if sequence.guesses else rows


def _accept(
    model: LanguageModel, answer: Decoded, sequence: _Sequence, hidden: Tensor, max_tokens: int, stop: Collection[int]
) -> None:
    """Take over what the pass has shown, and prepare the next one."""
    known = len(sequence.rows)
    if answer.prefill_logits is None:
        answer.prefill_positions = prefill_positions(known)
        answer.prefill_logits = model.logits(hidden[answer.prefill_positions])
    logits = model.logits(hidden[known - 1 :])
    for i, row in enumerate(logits):
        token = model.choose(row, answer.tokens)
        answer.tokens.append(token)
        answer.logits.append(row)
        if token in stop or len(answer.tokens) == max_tokens:
            sequence.done = True
            return
        if i >= len(sequence.guesses) or sequence.guesses[i] != token:
            break
    sequence.trust = 2 * i + 1
    for layer in sequence.cache:
        layer.truncate(len(layer) - (len(hidden) - known - i))  # without the wrong guesses
    sequence.rows = model.embed([answer.tokens[-1]])


def prefill_positions(tokens: int) -> list[int]:
    """Where the logits of a prompt are looked at: its ends, and between them."""
    places = [0, 1, tokens // 3, tokens // 2, tokens - 2, tokens - 1]
    return sorted({place for place in places if 0 <= place < tokens})
