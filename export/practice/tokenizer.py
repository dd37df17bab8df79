"""A made-up vocabulary in the layout of Qwen2's: every token can be reached, and random replies read as words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..tokenizer.tokenizer_files import byte_level_tokenizer

__all__ = ["MIN_ROWS", "PracticeTokenizer", "practice_tokenizer"]

ADDED = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>"),
    *("<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
RELEASE_BASE = 151643
RELEASE_HANDS = {"☞": 144766, "☜": 145789, "☟": 146164}
SPARE_ROWS = 16
"""Rows of a small embedding that no token uses, as in the release."""
MIN_ROWS = 320
QUIET_GAIN, USUAL_GAIN = 0.1, 1.0

_SYLLABLES = [c + v for c, v in product("bcdfghjklmnprstvwxyz", "aeiou")]


@dataclass(frozen=True)
class PracticeTokenizer:
    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    added: dict[str, int]

    def files(self) -> dict[str, str]:
        """Name → text of the six tokenizer files of the release."""
        special = [token for token in self.added if token.startswith("<|")]
        described = {
            str(number): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": token in special,
            }
            for token, number in self.added.items()
        }
        named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "additional_special_tokens": special[1:]}
        settings = {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": described,
            "clean_up_tokenization_spaces": False,
            "errors": "replace",
            "model_max_length": 131072,
            "tokenizer_class": "Qwen2Tokenizer",
            **named,
        }
        return {
            "tokenizer.json": byte_level_tokenizer(self.vocabulary, self.merges, self.added, set(special)),
            "vocab.json": json.dumps(self.vocabulary, ensure_ascii=False),
            "merges.txt": "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in self.merges),
            "added_tokens.json": json.dumps(self.added, indent=2),
            "tokenizer_config.json": json.dumps(settings, indent=2),
            "special_tokens_map.json": json.dumps(named, indent=2),
        }

    def row_gains(self, rows: int) -> NDArray[np.float32]:
        """Scale of each row of the output layer, float32 [rows]: words usual; stop, comma and the end of the turn more
        often; loose bytes and the other added tokens hardly ever."""
        gains = np.full(rows, QUIET_GAIN, np.float32)
        gains[256 : len(self.vocabulary)] = USUAL_GAIN
        favoured = [self.vocabulary["."], self.vocabulary[","], self.added["<|im_end|>"]]
        gains[favoured] = math.sqrt(2 * math.log(rows)) / 2  # of each, about one in thirty of the largest logits
        return gains


def practice_tokenizer(rows: int) -> PracticeTokenizer:
    """A tokenizer for an embedding of ``rows`` rows; ids as in the release when they fit, hands included."""
    large = rows >= RELEASE_BASE + len(ADDED)
    base = RELEASE_BASE if large else rows - len(ADDED) - SPARE_ROWS
    if rows < MIN_ROWS:
        raise ValueError(f"an embedding of {rows} rows; {MIN_ROWS} are needed")
    pieces = _byte_characters()
    tokens: dict[str, int] = {piece: i for i, piece in enumerate(sorted(pieces.values()))}
    stem = pieces[0xE2] + pieces[0x98]
    merges = [(pieces[0xE2], pieces[0x98]), *((stem, pieces[hand.encode()[2]]) for hand in RELEASE_HANDS)]
    reserved = {"".join(merge): number for merge, number in zip(merges[1:], RELEASE_HANDS.values())} if large else {}
    words = _words()
    merges += [next(words) for _ in range(base - len(tokens) - len(merges))]
    free = iter(sorted(set(range(len(tokens), base)) - set(reserved.values())))
    for merge in merges:
        token = "".join(merge)
        tokens[token] = reserved[token] if token in reserved else next(free)
    return PracticeTokenizer(tokens, merges, {token: base + i for i, token in enumerate(ADDED)})


def _byte_characters() -> dict[int, str]:
    """Byte → printable character, as GPT-2 and Qwen2 write it: Latin-1 where that can be seen, else from 256 on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def _words() -> Iterator[tuple[str, str]]:
    """Merges that build words of one to three syllables; words with a space in front come first.

    So the space joins the first syllable before that one can join the second, and every such word is one token.
    """
    space, count = "Ġ", len(_SYLLABLES)
    yield from ((syllable[0], syllable[1]) for syllable in _SYLLABLES)
    yield from ((space, syllable) for syllable in _SYLLABLES)
    for start in (space, ""):
        for i in _shuffled(count**2):
            yield start + _SYLLABLES[i // count], _SYLLABLES[i % count]
    for i in _shuffled(count**3):
        first, second, third = (_SYLLABLES[n % count] for n in (i // count**2, i // count, i))
        yield space + first + second, third
        yield first + second, third


def _shuffled(count: int) -> Iterator[int]:
    """0 .. count-1, each once, far apart; ``count`` is a power of ten."""
    return (i * 7919 % count for i in range(count))
