"""The tokenizer: byte-level BPE in Qwen2's format, in which every word of the world and of the prompts is one token."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, trainers

from vita_edge.export.practice.tokenizer import ADDED, PracticeTokenizer
from vita_edge.export.prompts import DEFAULT_PROMPTS
from vita_edge.export.tokenizer.tokenizer_files import byte_level_tokenizer
from world import COLOURS, NUMBERS, PLACES, SHAPES, all_answers, all_questions

__all__ = ["HANDS", "tokenizer_files"]

HANDS = ("☞", "☜", "☟")
MERGES_AT_MOST = 1200


def tokenizer_files() -> dict[str, str]:
    """Name → text of the six tokenizer files of a checkpoint; the same every time."""
    alphabet = json.loads(byte_level_tokenizer({}, [], {}, set()))
    untrained = Tokenizer.from_str(json.dumps(alphabet))
    untrained.model = models.BPE()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + MERGES_AT_MOST,
        min_frequency=2,
        initial_alphabet=list(_byte_characters()),
        show_progress=False,
    )
    untrained.train_from_iterator([text for text in _corpus() for _ in range(2)], trainer)
    model = json.loads(untrained.to_str())["model"]
    vocabulary = {str(token): int(number) for token, number in model["vocab"].items()}
    merges = [(str(left), str(right)) for left, right in model["merges"]]
    added = {token: len(vocabulary) + i for i, token in enumerate(ADDED)}
    return PracticeTokenizer(vocabulary, merges, added).files()


def _corpus() -> Iterable[str]:
    """Hands first and most often, so that nothing joins them before their own bytes do."""
    yield from (hand for hand in HANDS for _ in range(100_000))
    for texts in DEFAULT_PROMPTS.values():
        yield from texts.values()
    words = {word for text in (*all_questions(), *all_answers()) for word in text.lower().strip(".").split()}
    words |= {"color", "user", "system", "assistant", *SHAPES, *COLOURS, *NUMBERS, *" ".join(PLACES).split()}
    for word in sorted(words):
        yield from (word, f" {word}", word.capitalize(), f" {word.capitalize()}")


def _byte_characters() -> Iterable[str]:
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    yield from (chr(byte) for byte in visible)
    yield from (chr(256 + i) for i in range(len(hidden)))
