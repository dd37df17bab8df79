"""The sentences that the published demos hand to their speech decoder, oddities included, to reproduce their replies.

Formulas are put in words by plain substrings, so that "second" becomes " secant ond", and a sentence ends at every dot
(spec 8.1, 8.2). What a listener hears is cut by :class:`~vita_edge.runtime.text.clause_cutter.ClauseCutter` instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vita_edge.runtime.text.clause_cutter import Clause

__all__ = ["DemoClauseCutter", "basic_split", "speakable"]


class DemoClauseCutter:
    """Pieces of a reply in, sentences out, the same ones however the reply is split into pieces.

    A sentence closes at the first of ``, ， . 。 ? newline ？ ! ！ 、`` once 5 characters are there, the first sentence
    at once. ``speak_tail`` hands over a tail without such a character when the reply ends; the reference's demo loses
    it.
    """

    def __init__(self, speak_tail: bool = False) -> None:
        self._speak_tail = speak_tail
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

    def flush(self) -> Iterator[Clause]:
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
        text = speakable(text)
        if text.strip():
            written, self._written = self._written, ""
            yield Clause.of(text, written, first)


def speakable(text: str) -> str:
    """Reword ``text`` as the demos do: no hands or special tokens, formulas in words, lower-case."""
    return _formulas_in_words(_UNSPEAKABLE.sub("", text)).lower()


def basic_split(text: str) -> list[str]:
    """The sentences of the reference's basic, not live, demo: endings dropped, stripped, case kept."""
    text = _formulas_in_words(_UNSPEAKABLE.sub("", text))
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


def _formulas_in_words(text: str) -> str:
    """Spec 8.2, step by step; the order is part of the behaviour."""
    text = text.replace("**", " ")
    text = re.sub(r"(?<![\d)])-(\d+)", r"负\1", text)
    for name, words in _FUNCTIONS.items():
        text = text.replace(name, words)
    for sign, words in _OPERATORS.items():
        text = text.replace(sign, words)
    for letter, name in _GREEK.items():
        text = text.replace(letter, name)
    text = re.sub(r"\(?(\d+)\)?\((\d+)\)", r"\1乘\2", text)
    return re.sub(r"\(?(\w+)\)?\^\(?(\w+)\)?", r"\1的\2次方", text)
