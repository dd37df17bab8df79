"""What a rule is: a pattern, and how it is read in either language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["HAN", "NUMBER", "SIGNED", "Language", "Rule", "apply", "language_of", "rule"]

Language: TypeAlias = Literal["en", "zh"]
Match: TypeAlias = "re.Match[str]"
Reader: TypeAlias = Callable[[Match], "str | None"]
"""The words for a match; None leaves it to a later rule."""

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+)"
SIGNED = rf"(?:(?<![\w)\]])[-])?{NUMBER}"

_LETTERS = re.compile(f"(?P<han>[{HAN}])|[A-Za-z]+(?:'[a-z]+)?")
_WIDE = re.compile("[，。！？：；、（）《》「」￥]")
_IS_HAN = re.compile(f"[{HAN}]")


@dataclass(frozen=True)
class Rule:
    """A kind of thing that is not read as it is written."""

    pattern: re.Pattern[str]
    english: Reader
    chinese: Reader


def rule(pattern: str, english: Reader, chinese: Reader, flags: int = 0) -> Rule:
    """A rule from the source of its pattern, in which a Chinese character is no word character."""
    return Rule(re.compile(pattern, flags | re.ASCII), english, chinese)


def language_of(text: str, default: Language) -> Language:
    """The language that most of ``text`` is in, words and Chinese characters counted; ``default`` without either.

    In a talk in Chinese one Chinese character is enough.
    """
    words = [match.group("han") is not None for match in _LETTERS.finditer(text)]
    if any(words) and default == "zh":
        return "zh"
    chinese, wide = sum(words), len(_WIDE.findall(text))
    if not words:
        return "zh" if wide else default
    more = 2 * (chinese + wide) - (len(words) + wide)
    return "zh" if chinese and (more > 0 or (more == 0 and wide)) else "en"


def apply(rules: Iterable[Rule], text: str, language: Language) -> str:
    """Read what matches, rule by rule: in Chinese where a Chinese character touches it, else in ``language``."""
    for each in rules:

        def read(match: Match, each: Rule = each) -> str:
            around = match.string[: match.start()][-1:] + match.string[match.end() :][:1]
            chinese = language == "zh" or _IS_HAN.search(around)
            words = (each.chinese if chinese else each.english)(match)
            return match.group() if words is None else words if chinese else f" {words} "

        text = each.pattern.sub(read, text)
    return text
