"""From a written reply to the sentences that the speech decoder reads aloud.

The speech decoder was trained on what the reference's demos hand it, so sentences are cut and reworded exactly as they
do it (spec 8.1, 8.2), oddities included; where we differ it is said and can be switched off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["FIRST_SENTENCE_MARK", "Clause", "ClauseCutter", "basic_split", "speakable"]

FIRST_SENTENCE_MARK = "$$FIRST_SENTENCE_MARK$$"
"""The live demo's internal marker. Here only its traces are needed: it leaks into the demo's prompt, and its length
lets the first piece of a reply always pass as a sentence."""


@dataclass(frozen=True)
class Clause:
    """One sentence to be spoken, with the way in which the live demo streams it (spec 8.1)."""

    text: str
    """What the speech decoder reads: lower-case, formulas in words."""
    written: str
    """The characters of the reply up to here since the last clause: what the listener has then been told."""
    first: bool
    """The first of a reply: short chunks, so that sound starts early."""
    chunk: int
    """Codes decoded at a time."""
    threshold: float
    """Mean magnitude below which a chunk may be cut (1.0 is full scale); high for an early start."""
    trim: bool
    """Silence before the first sound is dropped."""
    padding: int = 10
    """Codes decoded on either side and thrown away."""


class ClauseCutter:
    """Pieces of a reply in, sentences out, the same ones however the reply is split into pieces.

    A sentence closes at the first of ``, ， . 。 ? newline ？ ! ！ 、`` once 5 characters are there, the first sentence
    at once. ``speak_tail`` hands over a tail without such a character when the reply ends; the reference's demo loses
    it. ``whole_words`` is that of :func:`speakable`.
    """

    def __init__(self, speak_tail: bool = True, whole_words: bool = False) -> None:
        self._speak_tail = speak_tail
        self._whole_words = whole_words
        self.reset()

    def reset(self) -> None:
        """As before the first piece of a reply."""
        self._first = True
        self._collected = ""
        self._written = ""

    def step(self, piece: str) -> Iterator[Clause]:
        """Take the next piece of the reply, of any length."""
        for character in piece:
            self._written += character
            if character == _ANSWERING:  # goes before characters are counted; the other hands count and go later
                continue
            self._collected += character
            if character in _ENDINGS and (self._first or len(self._collected) >= _SHORTEST):
                yield from self._close()

    def finish(self) -> Iterator[Clause]:
        """The reply has ended: hand over what is left, then be ready for the next reply."""
        if not self._speak_tail:
            self._collected = _TAIL.sub("", self._collected)
        if self._collected:
            yield from self._close()
        self.reset()

    def _close(self) -> Iterator[Clause]:
        text, first = self._collected, self._first
        self._collected, self._first = "", False
        if first:  # a comma would make the voice go on; it has nothing to go on with yet
            text = text.replace("，", "。").replace(",", "。")
        text = speakable(text, self._whole_words)
        if text.strip():
            written, self._written = self._written, ""
            chunk, threshold = (20, 0.1) if first else (40, 0.015)
            yield Clause(text, written, first, chunk, threshold, trim=first)


def speakable(text: str, whole_words: bool = False) -> str:
    """Reword ``text`` for the speech decoder: no hands or special tokens, formulas in words, lower-case.

    The reference replaces plain substrings, so that "using" becomes "u sine g"; ``whole_words`` leaves function names
    (sin, log, sec …) inside longer words alone.
    """
    return _formulas_in_words(_UNSPEAKABLE.sub("", text), whole_words).lower()


def basic_split(text: str) -> list[str]:
    """The sentences of the reference's basic, not live, demo: endings dropped, stripped, case kept."""
    text = _formulas_in_words(_UNSPEAKABLE.sub("", text), whole_words=False)
    return [sentence for part in re.split(f"[{_ENDINGS}]", text) if (sentence := part.strip())]


_ENDINGS = ",，.。?\n？!！、"
_TAIL = re.compile(f"[^{_ENDINGS}]*\\Z")
_SHORTEST = 5
"""Characters of a sentence; shorter ones are spoken together with the next."""
_ANSWERING = "☞"
_UNSPEAKABLE = re.compile("☞|☟|☜|<unk>|<\\|im_end\\|>")

_FUNCTIONS = {
    "sin": " sine ",
    "cos": " cosine ",
    "tan": " tangent ",
    "cot": " cotangent ",
    "sec": " secant ",
    "csc": " cosecant ",
    "log": " logarithm ",
    "exp": "e^",
    "sqrt": "根号 ",
    "abs": "绝对值 ",
}
# The reference also lists !=, >= and <=, but after the single characters, so that they never match.
_OPERATORS = {"+": "加", "-": "减", "*": "乘", "/": "除", "=": "等于", ">": "大于", "<": "小于"}
_GREEK = {
    "α": "alpha ",
    "β": "beta ",
    "γ": "gamma ",
    "δ": "delta ",
    "ε": "epsilon ",
    "ζ": "zeta ",
    "η": "eta ",
    "θ": "theta ",
    "ι": "iota ",
    "κ": "kappa ",
    "λ": "lambda ",
    "μ": "mu ",
    "ν": "nu ",
    "ξ": "xi ",
    "ο": "omicron ",
    "π": "派 ",
    "ρ": "rho ",
    "σ": "sigma ",
    "τ": "tau ",
    "υ": "upsilon ",
    "φ": "phi ",
    "χ": "chi ",
    "ψ": "psi ",
    "ω": "omega ",
}


def _formulas_in_words(text: str, whole_words: bool) -> str:
    """Spec 8.2, step by step; the order is part of the behaviour."""
    text = text.replace("**", " ")
    text = re.sub(r"(?<![\d)])-(\d+)", r"负\1", text)
    for name, words in _FUNCTIONS.items():
        text = re.sub(rf"(?<![A-Za-z]){name}(?![A-Za-z])", words, text) if whole_words else text.replace(name, words)
    for sign, words in _OPERATORS.items():
        text = text.replace(sign, words)
    for letter, name in _GREEK.items():
        text = text.replace(letter, name)
    text = re.sub(r"\(?(\d+)\)?\((\d+)\)", r"\1乘\2", text)
    return re.sub(r"\(?(\w+)\)?\^\(?(\w+)\)?", r"\1的\2次方", text)
