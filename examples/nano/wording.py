"""How people put a question: hesitations, courtesy and contractions, which the hearing learns to leave out."""

from __future__ import annotations

import random

__all__ = ["FILLERS", "widened"]

FILLERS = frozenset({"please", "uh", "um", "er", "so", "okay", "hey", "now", "just", "then"})
"""Words that mean nothing here: whoever hears them is to hand on what is said around them."""
BEFORE = ("please", "uh", "um", "er", "so", "okay", "hey", "now", "uh so", "okay so", "um please", "okay now")
AFTER = ("please", "please", "now", "then")
INSIDE = ("uh", "um", "er", "uh", "just")
CONTRACTED = {"what is": "what's", "where is": "where's", "who are": "who're"}


def widened(question: str, rng: random.Random) -> str:
    """As somebody may say it. Without the ``FILLERS`` and with contractions spelled out, it is ``question`` again."""
    text = question
    for whole, short in CONTRACTED.items():
        if rng.random() < 0.3:
            text = text.replace(whole, short, 1)
    if rng.random() < 0.25:
        text = f"{rng.choice(BEFORE)} {text}"
    if rng.random() < 0.12:
        text = f"{text} {rng.choice(AFTER)}"
    if rng.random() < 0.1:
        words = text.split()
        words.insert(rng.randrange(len(words)), rng.choice(INSIDE))
        text = " ".join(words)
    return text
