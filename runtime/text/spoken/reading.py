"""The whole way from a written clause to what is read aloud."""

from __future__ import annotations

import re

from . import acronyms, addresses, amounts, dates, symbols, words
from .markup import without_markup
from .rules import HAN, Language, apply, language_of
from .vocabulary import FRACTIONS

__all__ = ["read_aloud", "speakable"]

_RULES = (
    *addresses.RULES,
    *dates.RULES,
    *words.RULES,
    *amounts.RULES,
    *acronyms.RULES,
    *symbols.RULES,
    *amounts.PLAIN,
    *words.LATER,
)
_PLAIN = {**{0xFF10 + i: str(i) for i in range(10)}, 0xFF05: "%", 0xFF0B: "+", 0xFF0D: "-", 0xFF1D: "="}
_PLAIN |= {0xFF21 + i: chr(0x41 + i) for i in range(26)} | {0xFF41 + i: chr(0x61 + i) for i in range(26)}
_PLAIN |= {ord("’"): "'", ord("‘"): "'", 0xA0: " ", 0x202F: " ", 0x2009: " ", 0x200B: "", 0xFEFF: "", 0x3000: " "}
_PLAIN |= {ord("−"): "-", ord("²"): "^2", ord("³"): "^3", ord("½"): " 1/2"}
_PLAIN |= {ord(sign): f" {fraction}" for sign, fraction in FRACTIONS.items()}
_SPOKEN = re.compile(r"[^\W_]")
_TIDY = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\w)'|'(?!\w)", " "),
        (r"[\"“”«»„《》「」『』〈〉【】{}\\^`*_|~]", " "),
        (r"[(\[（]", ", "),
        (r"[)\]）]", ", "),
        (r"(?:(?<=\s)|^)[-–/+<>=$#]+(?=\s|$)|(?<=\w)[/<>$](?=\s|$)|(?<=\s)[/<>$](?=\w)", " "),
        (r"\s+", " "),
        (rf"(?<=[{HAN}，。！？、；：]) (?=[{HAN}，。！？、；：])", ""),
        (r" +(?=[,.!?;:，。！？；：、…])", ""),
        (r"[,，](?:\s*[,，])+", ","),
        (r"[,，;:]\s*(?=[.!?。！？…])", ""),
        (r"(?<=\s)-+(?=[a-z])", ""),
        (r"^[\s,，;:、.…—–!?。！？-]+(?=[^\s])", ""),
        (r"([.。!！?？])[,，]", r"\1"),
    )
)


def speakable(text: str) -> bool:
    """Whether there is a letter or a digit in it."""
    return _SPOKEN.search(text) is not None


def read_aloud(text: str, default: Language = "en", line_start: bool = True) -> str:
    """``text`` as a listener expects it: in words, lower-case, without marks for the eye; empty when nothing is left.

    Args:
        default: the language where the text itself has no letter.
        line_start: it begins a line, so that ``# `` is a heading.
    """
    text = without_markup(text.translate(_PLAIN), line_start)
    text = amounts.DECIMAL_COMMA.sub(r"\1.\2", text)
    spoken = apply(_RULES, text, language_of(text, default))
    spoken = acronyms.spelled_in(spoken).lower()
    for pattern, replacement in _TIDY:
        spoken = pattern.sub(replacement, spoken)
    spoken = spoken.strip()
    return spoken if speakable(spoken) else ""
