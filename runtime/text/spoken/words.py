"""Abbreviations, Roman numerals, and words with slashes and hyphens."""

from __future__ import annotations

import re

from . import english_numbers as en
from .rules import HAN, Rule, rule

__all__ = ["ABBREVIATIONS", "LATER", "NEVER_LAST", "NUMBERED", "RULES"]

NEVER_LAST = {
    "dr": "doctor",
    "mr": "mister",
    "mrs": "missus",
    "ms": "miz",
    "prof": "professor",
    "gen": "general",
    "col": "colonel",
    "capt": "captain",
    "lt": "lieutenant",
    "sgt": "sergeant",
    "rev": "reverend",
    "gov": "governor",
    "sen": "senator",
    "mt": "mount",
    "vs": "versus",
    "e.g": "for example",
    "i.e": "that is",
    "cf": "compare",
    "approx": "approximately",
    "viz": "namely",
    "tel": "telephone",
    "ext": "extension",
    "bldg": "building",
    "messrs": "messrs",
}
"""Abbreviations that no sentence ends with, without their last dot."""
_MAY_BE_LAST = {
    "etc": "et cetera",
    "inc": "incorporated",
    "ltd": "limited",
    "corp": "corporation",
    "jr": "junior",
    "sr": "senior",
    "ave": "avenue",
    "blvd": "boulevard",
    "rd": "road",
    "dept": "department",
    "et al": "and others",
    "max": "maximum",
    "bros": "brothers",
    "assn": "association",
    "univ": "university",
    "hwy": "highway",
    "apt": "apartment",
    "temp": "temperature",
    "incl": "including",
    "est": "estimated",
    "mon": "monday",
    "tue": "tuesday",
    "tues": "tuesday",
    "wed": "wednesday",
    "thu": "thursday",
    "thurs": "thursday",
    "fri": "friday",
    "jan": "january",
    "feb": "february",
    "apr": "april",
    "aug": "august",
    "sept": "september",
    "oct": "october",
    "nov": "november",
    "dec": "december",
}
NUMBERED = {
    "no": "number",
    "nos": "numbers",
    "fig": "figure",
    "figs": "figures",
    "vol": "volume",
    "ch": "chapter",
    "sec": "section",
    "p": "page",
    "pp": "pages",
    "eq": "equation",
    "art": "article",
    "ver": "version",
    "ca": "about",
    "c": "about",
}
ABBREVIATIONS = frozenset({*NEVER_LAST, *_MAY_BE_LAST, *NUMBERED, "st", "rs", "ft", "min", "sec", "hr", "tbsp", "tsp"})
"""Words that a dot may follow within a sentence."""
_CAPITALISED_ONLY = frozenset(
    "gen col mt sen rev gov est mon wed thu fri jan apr nov dec oct sept aug feb ms inc corp ave rd lt capt".split()
)
_EITHER = frozenset(
    "he/she she/he his/her her/his him/her his/hers yes/no true/false on/off left/right either/neither s/he "
    "male/female "
    "up/down in/out men/women pass/fail and/nor".split()
)
_ROMAN = r"(?=[IVXLC])(?:C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))"
_COUNTED = (
    "Chapter|Part|Section|Volume|Act|Scene|War|Type|Phase|Level|Figure|Table|Book|Article|Title|Appendix|Class|Grade|"
    "Stage|Mark|Bowl|Episode|Unit|Module|Step|Option|Apollo|Rocky|Fantasy|Factor|Schedule|Category"
)
_REIGNED = (
    "Henry|Louis|Elizabeth|George|Charles|William|Edward|Richard|James|Philip|Philippe|Napoleon|Catherine|John|Paul|"
    "Pius|Benedict|Gregory|Leo|Innocent|Alexander|Frederick|Peter|Nicholas|Ivan|Mary|Ramses|Ramesses|Ptolemy|Xerxes|"
    "Darius|Wilhelm|Otto|Umberto|Emmanuel|Carlos|Felipe|Carl|Gustav|Gustaf|Harald|Haakon|Olav|Christian|Clement|Urban|"
    "Julius|Boniface|Alfonso|Ferdinand|Joseph|Maximilian|Rudolf|Albert|Leopold|Thutmose|Amenhotep|Margrethe|Francis|"
    "Sixtus|Stephen|Robert|David|Malcolm|Edmund|Baldwin"
)
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def _value(roman: str) -> int:
    values = [_VALUES[letter] for letter in roman]
    return sum(-value if value < following else value for value, following in zip(values, [*values[1:], 0]))


def _abbreviation(word: str) -> str | None:
    key = word.lower()
    if key in _CAPITALISED_ONLY and word[0].islower():
        return None
    return NEVER_LAST.get(key) or _MAY_BE_LAST.get(key)


def _one(match: re.Match[str]) -> str | None:
    """An abbreviation; its dot stays where it ends the sentence as well."""
    words = _abbreviation(match["word"])
    if words is None:
        return None
    ends = match["word"].lower() not in NEVER_LAST and not match.string[match.end() :].strip("\"')”’ ")
    return words + ("." if ends else "")


def _initials(match: re.Match[str]) -> str:
    """U.S.A. → u s a; its last dot stays where it may end the sentence."""
    letters = " ".join(match[1].replace(".", "").lower())
    return letters + ("." if not match.string[match.end() :].strip("\"')”’ ") else "")


def _before_number(match: re.Match[str]) -> str:
    return f"{NUMBERED[match[1].lower()]} "


def _slashed(match: re.Match[str]) -> str:
    words = match[0]
    if words.lower() == "and/or":
        return "and or"
    return words.replace("/", " or " if words.lower() in _EITHER else " ")


def _rule(pattern: str, read: object, flags: int = 0) -> Rule:
    return rule(pattern, read, read, flags)  # type: ignore[arg-type]


def _alternatives(words: object) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))  # type: ignore[call-overload]


RULES: tuple[Rule, ...] = (
    _rule(r"(?i)\bw/o\b", lambda m: "without"),
    _rule(r"(?i)\bw/(?=\s|\w)", lambda m: "with "),
    _rule(r"(?i)\bn/a\b", lambda m: "n a"),
    _rule(rf"(?<![\w.])((?i:{_alternatives(NUMBERED)}))\.\s?(?=[0-9]|(?:[ivxl]{{2,}}|[IVXL]{{2,}})\b)", _before_number),
    _rule(rf"(?<![\w.])(?P<word>(?i:{_alternatives({*NEVER_LAST, *_MAY_BE_LAST})}))\.(?![\w])", _one),
    _rule(r"\bvs\b", lambda m: "versus"),
    _rule(r"\b(Mr|Mrs|Dr|Prof)\s(?=[A-Z][a-z])", lambda m: f"{NEVER_LAST[m[1].lower()]} "),
    _rule(r"\bSt\.?\s(?=[A-Z])", lambda m: "saint "),
    _rule(r"(?<=[A-Za-z]\s)St\.(?!\w)", lambda m: "street" + ("." if not m.string[m.end() :].strip() else "")),
    _rule(r"\bFt\.\s(?=[A-Z])", lambda m: "fort "),
    _rule(r"\bPh\.?D\.?(?!\w)", lambda m: "p h d"),
    _rule(r"(?<![\w.])((?:[A-Za-z]\.){2,})(?!\w)", _initials),
    _rule(r"(?<![\w.])([A-Z])\.(?=\s[A-Z])", lambda m: f"{m[1].lower()} "),
    _rule(r"(?i)\bctrl\s?[+-]\s?(?=\w)", lambda m: "control "),
    _rule(rf"(?<=\b)({_COUNTED})\s({_ROMAN})(?![\w'’])", lambda m: f"{m[1]} {en.cardinal(_value(m[2]))}"),
    _rule(
        rf"\b({_REIGNED})\s({_ROMAN})(?![\w'’])(?<!\sI)",
        lambda m: f"{m[1]} the {en.ordinal(_value(m[2]))}",
    ),
    _rule(
        rf"\b({_REIGNED})\sI(?=\s?[.,;:!?)]|\s(?:of|was|ruled|reigned|had|became|died|is)\b|$)",
        lambda m: f"{m[1]} the first",
    ),
)

LATER: tuple[Rule, ...] = (
    _rule(r"[A-Za-z]+(?:/[A-Za-z]+)+", _slashed),
    _rule(rf"(?<=[\w{HAN}])[-‐‑](?=\w)", lambda m: " "),
    _rule(r"(?<=\w)_+(?=\w)", lambda m: " "),
)
"""When addresses, dates and arithmetic are words already: and/or, state-of-the-art, my_value."""
