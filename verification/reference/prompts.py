"""Prompts as the published programs write them, and their token ids with marks for pictures and sounds."""

from __future__ import annotations

import re

from tokenizers import Tokenizer

__all__ = ["AUDIO", "FIRST_SENTENCE_MARK", "IMAGE", "live_second_turn", "one_turn", "prompt_ids"]

IMAGE, AUDIO = -200, -500
"""In the place of ids: one tile or frame, one clip of sound."""
FIRST_SENTENCE_MARK = "$$FIRST_SENTENCE_MARK$$"
"""The published live demo puts it before every reply, and so into its history."""

USER = "<|im_start|>user\n"
ASSISTANT = "<|im_start|>assistant\n"


def one_turn(system: str, user: str) -> str:
    """A prompt of one question; ``<image>`` stands for a tile or frame, ``<audio>`` for a clip."""
    return _turn("system", system) + _turn("user", user) + ASSISTANT


def live_second_turn(system: str, past_user: str, past_reply: str, user: str) -> str:
    """A prompt with one past turn, as the published live demo assembles it.

    Pictures of the past are gone, those of now stand first, and the second question has no line ``user``.
    """
    past_user = past_user.replace("<image>", "")
    rest = _turn("user", past_user) + _turn("assistant", past_reply) + _turn("user", user) + ASSISTANT
    marks = "<image>" * rest.count("<image>")
    rest = rest.replace("<image>", "").replace(USER, "")
    return (_turn("system", system) + USER + marks + rest).replace("☞ ", "☞").replace("☟ ", "☟")


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt; the text between two marks is encoded on its own."""
    ids: list[int] = []
    for part in re.split("(<image>|<audio>)", prompt):
        mark = {"<image>": IMAGE, "<audio>": AUDIO}.get(part)
        ids += [mark] if mark else tokenizer.encode(part, add_special_tokens=False).ids
    return ids


def _turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"
