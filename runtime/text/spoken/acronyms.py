"""Capitals that are spelled out, and words of letters and digits."""

from __future__ import annotations

import re

from . import chinese_numbers, english_numbers
from .rules import Rule, rule

__all__ = ["RULES", "spelled", "spelled_in"]

_SPELLED = frozenset(
    "ai api apis atm av bbc bios bmi ceo cfo ci cia cli cpu cto ceo cia cpus db diy dna dpi dvd dj ecg eeg eta eu faq "
    "fbi gdp gmo gpa gpu gps gui hdmi hr html http https iq ide id io iot ip isbn iso it led lcd llm ml mri nba nfl "
    "nlp ngo nlp ok os pc pdf phd pr ps pvc qa rgb rna rss sdk seo sms sos sql ssh ssd ssl svg tcp tls tts tv "
    "ufo ui uk "
    "un url urls us usa usb usd ussr utc uv ux vip vpn vr ar xml yaml eur gbp cny rmb jpy hiv adhd csv css js npm iou "
    "asr vad aec ros rtsp ac dc cd am pm bc ad ce bce edt est pst gmt mph ide ipa tba tbd".split()
)
_WORDS = frozenset("nth mr mrs ms dr st vs hmm shh brr pst tsk grr psst nymph".split())
_VOWEL = re.compile("[AEIOUYaeiouy]")
_CAPITALS = re.compile(r"(?<![A-Za-z])([A-Z]{2,6})(s?)(?![A-Za-z])")
_LOWER = re.compile(r"[a-z]")
_MIXED = re.compile(
    r"(?<![\w.])(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[A-Za-z0-9]+(?:-[0-9][A-Za-z0-9]*)*(?![\w]|\.[0-9])", re.ASCII
)
_RUNS = re.compile(r"[0-9]+|[A-Za-z]+")
_SHORT = frozenset("mp kg gb mb tb v".split())


def spelled(word: str) -> str:
    """``word`` letter by letter where its capitals are read so: API → a p i, NASA → nasa, example → example."""
    if len(word) > 1 and word.isascii() and word.isupper() and _is_initialism(word):
        return " ".join(word.lower())
    if word.lower() in ("html", "http", "https", "js", "md", "css", "csv", "sql", "xml", "php", "pdf", "png", "cpp"):
        return " ".join(word.lower())
    return word


def spelled_in(text: str) -> str:
    """``text`` with its initialisms spelled out; in text that is all capitals only those that are no words."""
    shouted = not _LOWER.search(text) and len(re.findall("[A-Z]{2,}", text)) > 2

    def spell(match: re.Match[str]) -> str:
        word, plural = match.groups()
        if (shouted and _VOWEL.search(word)) or not _is_initialism(word):
            return match.group()
        return f" {' '.join(word.lower())}{plural} "

    return _CAPITALS.sub(spell, text)


def _is_initialism(word: str) -> bool:
    return word.lower() in _SPELLED or (not _VOWEL.search(word) and word.lower() not in _WORDS)


def _letters(run: str) -> str:
    """Letters beside digits: capitals and short things are spelled."""
    if (run.isupper() and len(run) <= 4 and run not in ("COVID",)) or run.lower() in _SHORT:
        return " ".join(run.lower())
    return run


def _figures(run: str) -> str:
    """Figures beside letters: from four on they are read one by one, as of a flight."""
    return english_numbers.digits(run) if len(run) > 3 else english_numbers.number(run)


def _chinese_figures(run: str) -> str:
    return chinese_numbers.digits(run) if len(run) > 3 else chinese_numbers.number(run)


def _english(match: re.Match[str]) -> str | None:
    words = []
    for run in _RUNS.findall(match[0]):
        pixels = run.isdigit() and len(run) == 4 and match[0] == f"{run}p"
        if pixels:
            words.append(english_numbers.year(int(run)))
        else:
            words.append(_figures(run) if run.isdigit() else _letters(run))
    return " ".join(words)


def _chinese(match: re.Match[str]) -> str | None:
    runs = _RUNS.findall(match[0])
    return "".join(_chinese_figures(run) if run.isdigit() else f" {_letters(run)} " for run in runs)


RULES: tuple[Rule, ...] = (rule(_MIXED.pattern, _english, _chinese, re.ASCII),)
"""H2O → h two o, GPT-4 → g p t four, 3D → three d, MP3 → m p three."""
