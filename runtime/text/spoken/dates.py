"""Dates, years and times of the day."""

from __future__ import annotations

import re

from . import chinese_numbers as zh
from . import english_numbers as en
from .rules import Rule, rule
from .vocabulary import MONTHS, WEEKDAYS

__all__ = ["RULES"]

Match = re.Match[str]
_MONTH = (
    r"(?P<month>January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"
)
_DAY = r"(?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[12][0-9]{3})"
_NO_DIGIT = r"(?![0-9]|[.,:/-][0-9])"
_START = r"(?<![\w.,:/-])"
_HALF = r"(?:\s?(?P<half>[AaPp])(?:\.[Mm]\.|[Mm]\b))"
_TIME = r"(?P<h>[01]?[0-9]|2[0-4]):(?P<m>[0-5][0-9])(?::(?P<s>[0-5][0-9]))?"
_WEEKDAYS = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CUES = (
    r"in|since|until|till|by|before|after|from|of|to|year|around|circa|during|early|late|mid|summer|winter|spring|fall|"
    r"autumn|to|and|through|began|ended|Q[1-4]|January|February|March|April|May|June|July|August|September|October|"
    r"November|December"
)
_NOT_COUNTED = (
    r"(?!\s?[%°$€£]|\s(?:percent|people|meters|metres|miles|feet|years|days|hours|minutes|seconds|dollars|euros|pounds|"
    r"points|words|times|items|things|more|other|of|units|kg|km|m|g|cm|mm|ms|MB|GB|ft|lbs?|W|V)\b)"
)


def _date(year: str | None, month: int, day: int | None, *, day_first: bool = False) -> str | None:
    if not 1 <= month <= 12 or (day is not None and not 1 <= day <= 31):
        return None
    name, spoken_year = list(MONTHS.values())[month - 1], f" {en.year(int(year))}" if year else ""
    if day is None:
        return name + spoken_year
    if day_first:
        return f"the {en.ordinal(day)} of {name}{spoken_year}"
    return f"{name} {en.ordinal(day)}{spoken_year}"


def _month(match: Match) -> int:
    return list(MONTHS).index(match["month"][:3].lower()) + 1


def _english_date(match: Match) -> str | None:
    month, day = int(match["month"]), int(match["day"])
    if month > 12 >= day:  # 24/11/2026
        month, day = day, month
    return _date(match["year"], month, day)


def _chinese_date(match: Match) -> str | None:
    month, day = int(match["month"]), int(match["day"])
    if month > 12 >= day:
        month, day = day, month
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return None
    return f"{zh.digits(match['year'])}年{zh.cardinal(month)}月{zh.cardinal(day)}日"


def _after_the(match: Match) -> bool:
    return match.string[: match.start()].lower().rstrip().endswith(" the")


def _named(match: Match) -> str | None:
    year = match.groupdict().get("year")
    return _date(year, _month(match), int(match["day"]))


def _day_first(match: Match) -> str | None:
    words = _date(match.groupdict().get("year"), _month(match), int(match["day"]), day_first=True)
    return words.removeprefix("the ") if words and _after_the(match) else words


def _named_chinese(match: Match) -> str | None:
    year = match.groupdict().get("year")
    return f"{zh.digits(year) + '年' if year else ''}{zh.cardinal(_month(match))}月{zh.cardinal(int(match['day']))}日"


def _english_time(match: Match) -> str | None:
    half = match.groupdict().get("half")
    seconds = match["s"]
    words = en.clock(int(match["h"]), int(match["m"]), int(seconds) if seconds else None, bool(half))
    return f"{words} {half.lower()} m" if half else words


def _chinese_time(match: Match) -> str | None:
    hours, minutes, seconds = int(match["h"]), int(match["m"]), match["s"]
    words = ("两" if hours == 2 else zh.cardinal(hours)) + "点"
    if minutes or seconds:
        words += ("零" if 0 < minutes < 10 else "") + zh.cardinal(minutes) + "分"
    if seconds:
        words += zh.cardinal(int(seconds)) + "秒"
    half = match.groupdict().get("half")
    return f"{words} {half.lower()} m" if half else words


def _hours(match: Match) -> str:
    return f"{en.number(match['h'])} {match['half'].lower()} m"


def _hours_chinese(match: Match) -> str:
    return f"{zh.counted(match['h'])}点 {match['half'].lower()} m"


def _decade(match: Match) -> str:
    return en.plural_decade(int(match["decade"]))


def _weekdays(match: Match) -> str:
    return f"{WEEKDAYS[match['a'].lower()]} to {WEEKDAYS[match['b'].lower()]}"


def _none(match: Match) -> None:
    return None


def _year(match: Match) -> str:
    return en.year(int(match["year"]))


RULES: tuple[Rule, ...] = (
    rule(
        rf"{_START}{_YEAR}(?P<s>[-/.])(?P<month>[01]?[0-9])(?P=s)(?P<day>[0-3]?[0-9]){_NO_DIGIT}(?!\w)",
        _english_date,
        _chinese_date,
    ),
    rule(
        rf"{_START}(?P<month>[0-3]?[0-9])(?P<s>[/.])(?P<day>[0-3]?[0-9])(?P=s){_YEAR}{_NO_DIGIT}(?!\w)",
        _english_date,
        _chinese_date,
    ),
    rule(rf"\b{_MONTH} {_DAY}(?:,? {_YEAR})?{_NO_DIGIT}\b", _named, _named_chinese),
    rule(rf"{_START}{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR}{_NO_DIGIT}\b)?", _day_first, _named_chinese),
    rule(
        r"(?<![0-9])(?:[0-9]{4}|(?<=前)[0-9]{2,3})(?=年(?!级))|(?<![0-9])[0-9]0(?=后(?![来面]))",
        _none,
        lambda m: zh.digits(m[0]),
    ),
    rule(r"(?<=[0-9])\s?[-–~～]\s?(?=[0-9]{1,2}:[0-9]{2})", lambda m: "to", lambda m: "到"),
    rule(r"(?<=[AaPp][Mm])\s?[-–]\s?(?=[0-9])|(?<=[AaPp]\.[Mm]\.)\s?[-–]\s?(?=[0-9])", lambda m: "to", lambda m: "到"),
    rule(r"\(([12][0-9]{3})\)", lambda m: f"({en.year(int(m[1]))})", _none),
    rule(rf"\b(?P<a>{_WEEKDAYS})\.?\s*(?:[-–]|\bto\b)\s*(?P<b>{_WEEKDAYS})\b", _weekdays, _none),
    rule(rf"(?<![\w.:]){_TIME}{_HALF}", _english_time, _chinese_time),
    rule(rf"(?<![\w.])(?P<h>1?[0-9]){_HALF}", _hours, _hours_chinese),
    rule(rf"(?<![\w.:]){_TIME}(?![\w.]?[0-9]|:)", _english_time, _chinese_time),
    rule(r"(?<![\w.])'?(?P<decade>(?:1[0-9]|20)?[0-9]0)'?s\b", _decade, _none),
    rule(
        rf"(?<=[a-z]\s){_YEAR}\s?[-–]\s?(?P<until>[12][0-9]{{3}})(?![\w]|[.,][0-9]){_NOT_COUNTED}",
        lambda m: f"{_year(m)} to {en.year(int(m['until']))}",
        _none,
    ),
    rule(
        rf"(?i)\b(?P<cue>{_CUES})(?P<space>[,]?\s){_YEAR}(?![\w]|[.,-][0-9]){_NOT_COUNTED}",
        lambda m: f"{m['cue']}{m['space']}{_year(m)}",
        _none,
    ),
)
