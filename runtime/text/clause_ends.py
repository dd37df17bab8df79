"""Where a clause may end: behind which marks, and where a long one is cut between two words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .spoken.rules import HAN
from .spoken.words import ABBREVIATIONS, NEVER_LAST, NUMBERED

__all__ = ["Limits", "cut_before", "ends_at", "weight"]

_AT_ONCE = "。！？!?，、；…\n？！"
_CLOSING = "\"')”’]*_`»）」』"
_SPACE = " \t\r\n\u3000"
_STARTERS = frozenset(
    "the a an it you i he she we they this that these those there but and so in on at if when what who how why where "
    "then however also for as my your his her its our their please no yes let is are do does can".split()
)
_LETTERED = frozenset("plan vitamin option type class grade group point part section answer letter team room".split())
_OPENERS = frozenset(
    "and but or so because that which who where when while if although though since unless until as than then after "
    "before during with without in on at by for from to of into onto over under through between about against near "
    "behind beside above below across along around inside outside toward towards".split()
)
_GLUE = frozenset(
    "a an the this that these those my your his her its our their some any no every each one of in on at by for from "
    "to with and or but so if as than is are was were be been am do does did has have had can could will would may "
    "might must shall should not very too more most less least quite rather just only i you he she we they it into "
    "about because which who where when while between without through over under such other another".split()
)
_CHINESE_OPENERS = (
    "但是 因为 所以 而且 并且 如果 以及 或者 不过 然后 通过 关于 为了 虽然 由于 因此 同时 其中 此外 另外 例如 "
    "比如 还是 还有 包括 并不 可以 需要 能够 已经 正在 就是 不仅 无论 只要 只有 除了 根据 按照 随着 当然 尤其 特别"
).split()
_PARTICLES = "的了着过"
_BEFORE_VERB = "它他她我你您们这那和与及并也都就还又才只不"
_BOUND = ("的确", "的话", "的士", "了解", "了不", "了如", "着急", "着重", "过程", "过去", "过来", "过于", "过度")
_ENTITY = re.compile(r"&(?:\w+|#[0-9]+)\Z")
_DAY = re.compile(
    r"\b(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sep|Sept|Oct|Nov|Dec)[a-z]*\.? [0-9]{1,2}(?:st|nd|rd|th)?\Z", re.ASCII
)
_IS_HAN = re.compile(f"[{HAN}]")
_ADDRESS = re.compile(r"://|@|www\.|^[\"'(<\[]*[\w-]+\.[\w-]+/")
_INITIALS = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_NEXT_WORD = re.compile(r"\s+([A-Za-z']+)(?![A-Za-z'])")


@dataclass(frozen=True)
class Limits:
    """Weights (:func:`weight`) from which a clause without a mark is cut, at ever less good places."""

    soft: int
    """Before a word that opens a phrase."""
    hard: int
    """Between two words that do not stick together."""
    absolute: int
    """Between any two words, or two Chinese characters."""
    last: int
    """Anywhere."""


def weight(text: str) -> int:
    """How long ``text`` takes to say, about fifteen a second: a letter 1, a Chinese character 3, a digit 5."""
    return sum(5 if c.isdigit() else 3 if c >= "\u2e80" else 1 for c in text)


def ends_at(text: str, at: int, *, line_start: bool, final: bool) -> bool | None:
    """Whether the clause ``text`` ends behind the mark at ``at``; None when more text is needed to know.

    Args:
        line_start: the clause begins a line, where ``1.`` numbers an item.
        final: no text will follow.
    """
    mark = text[at]
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if mark not in ".,:;：—" + _AT_ONCE or (at == 0 and mark in ".,:;"):
        return False
    undecided = not after and not final
    apart = not after or after in _SPACE or after in _CLOSING or _IS_HAN.match(after) is not None
    if mark == ";" and _ENTITY.search(text[:at]):
        return False
    if mark == "!" and (not before or before.isspace()):  # != and ![picture]
        return None if undecided else apart
    if mark in _AT_ONCE:
        if mark == "\n" or mark > "\x7f" or not _ADDRESS.search(_word(text, at)):
            return True
        return None if undecided else apart
    if mark == "," and _DAY.search(text[:at]):
        return _year_follows(text[at + 1 :], final)
    if undecided:
        return True if mark in ",：—" and not before.isdigit() and not _ADDRESS.search(_word(text, at)) else None
    if before.isdigit() and after.isdigit():
        return False
    if mark in ",：—":
        return apart or not _ADDRESS.search(_word(text, at))
    if mark != ".":
        return apart
    return _dot_ends(text, at, apart, line_start, final)


def cut_before(text: str, at: int, limits: Limits, *, final: bool) -> bool | None:
    """Whether a clause that has grown long is cut before ``text[at]``; None when more text is needed to know."""
    if at == 0 or (heavy := weight(text[:at])) < limits.soft:
        return False
    if heavy >= limits.last:
        return True
    here, before = text[at], text[at - 1]
    if here.isspace() and not before.isspace():
        return _cut_between_words(text, at, heavy, limits, final)
    if _IS_HAN.match(here) and _IS_HAN.match(before):
        if heavy >= limits.absolute:
            return True
        if at + 2 > len(text) and not final:
            return None
        if text[at : at + 2] in _CHINESE_OPENERS:
            return before not in _BEFORE_VERB and not _open(text[:at])
        sticks = text[at - 1 : at + 1] in _BOUND
        return heavy >= limits.hard and before in _PARTICLES and not sticks and not _open(text[:at])
    return False


def _word(text: str, at: int) -> str:
    """What stands before ``at``, back to the last space."""
    return re.split(r"\s", text[:at])[-1]


def _year_follows(rest: str, final: bool) -> bool | None:
    """Behind ``July 4,``: not an end before a year."""
    if re.match(r" [12][0-9]{3}", rest):
        return False
    return None if not final and re.fullmatch(r"(?: (?:[12][0-9]{0,2})?)?", rest) else True


def _dot_ends(text: str, at: int, apart: bool, line_start: bool, final: bool) -> bool | None:
    whole = _word(text, at)
    word = whole.lstrip("\"'(“‘[*_").removesuffix("'s")
    if not apart:  # www.example.com, 3.14, U.S.; but also: a space was forgotten.Here
        return word.isalpha() and len(word) > 2 and word[-1].islower() and text[at + 1].isupper()
    if line_start and word.isdigit() and len(word) < 4 and not text[: at - len(whole)].strip():
        return False
    key = word.lower()
    if len(word) == 1 and word.isalpha() and word.isupper() and word != "I":
        named = text[: at - len(whole)].split()
        return bool(named and named[-1].lower() in _LETTERED)
    if key in NEVER_LAST:
        return False
    if key not in ABBREVIATIONS and not _INITIALS.fullmatch(word):
        return True
    rest = text[at + 1 :]
    following = rest.lstrip(_CLOSING).lstrip()
    if not following:
        return True if final else None
    if key in NUMBERED and not following[0].isdigit():
        return True
    if not following[0].isalpha():
        return not following[0].isdigit()
    if not following[0].isascii():
        return True
    found = re.match(r"[A-Za-z']+", following)
    assert found
    if found.end() == len(following) and not final:
        return None
    return found[0][0].isupper() and found[0].lower() in _STARTERS


def _cut_between_words(text: str, at: int, heavy: int, limits: Limits, final: bool) -> bool | None:
    if heavy >= limits.absolute:
        return True
    rest = text[at:].lstrip()
    following = re.match(r"\S+(?=\s)", rest)
    if following is None:
        return False if final else None
    before, word = text[:at].split()[-1:], following[0]
    if not before or _open(text[:at]) or before[0].lower() in _GLUE or any(c.isdigit() for c in before[0] + word):
        return False
    if word.lower() in _OPENERS:
        return True
    both_names = before[0][0].isupper() and word[0].isupper()
    return heavy >= limits.hard and word[0].isalnum() and not both_names


def _open(text: str) -> bool:
    """Whether a bracket or a mark of markdown is still open."""
    pairs = (("(", ")"), ("[", "]"), ("（", "）"), ("《", "》"), ("“", "”"))
    if any(text.count(left) > text.count(right) for left, right in pairs):
        return True
    return any(text.count(mark) % 2 for mark in ("`", "**", "$", '"'))
