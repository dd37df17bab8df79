"""Numbers in English words."""

from __future__ import annotations

__all__ = ["cardinal", "clock", "digits", "number", "ordinal", "plural_decade", "year"]

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "- ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ("", "thousand", "million", "billion", "trillion", "quadrillion")
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_O_CLOCK = "o'clock"
LONGEST = 15
"""Digits; a longer number is an identifier, and is read digit by digit."""


def cardinal(value: int) -> str:
    """1234 → one thousand two hundred thirty four; at most 18 digits."""
    if value < 20:
        return _SMALL[value]
    if value < 100:
        return _join(_TENS[value // 10], value % 10)
    if value < 1000:
        return _join(f"{_SMALL[value // 100]} hundred", value % 100)
    power = (len(str(value)) - 1) // 3
    high, low = divmod(value, 1000**power)
    return _join(f"{cardinal(high)} {_SCALES[power]}", low)


def ordinal(value: int) -> str:
    """22 → twenty second."""
    *before, last = cardinal(value).split()
    last = _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return " ".join([*before, last])


def digits(text: str) -> str:
    """Digit by digit; other characters are left out."""
    return " ".join(_SMALL[int(digit)] for digit in text if digit in "0123456789")


def number(text: str) -> str:
    """A decimal number as it is written, with or without sign, commas of thousands and decimals."""
    sign = "minus " if text[:1] in "-" else ""
    whole, dot, decimals = text.lstrip("-+").replace(",", "").partition(".")
    identifier = len(whole) > LONGEST or (len(whole) > 1 and whole.startswith("0") and not dot)
    spoken = digits(whole) if identifier else cardinal(int(whole)) if whole else ""
    if dot and decimals:
        spoken = f"{spoken} point {digits(decimals)}".strip()
    return sign + spoken


def year(value: int) -> str:
    """1999 → nineteen ninety nine, 2005 → two thousand five, 1900 → nineteen hundred."""
    high, low = divmod(value, 100)
    if not 1000 <= value < 10000 or (high % 10 == 0 and low < 10):
        return cardinal(value)
    if low == 0:
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"


def plural_decade(value: int) -> str:
    """1990 → nineteen nineties, 80 → eighties."""
    spoken = year(value) if value >= 100 else cardinal(value)
    return spoken[:-1] + "ies" if spoken.endswith("y") else spoken + "s"


def clock(hours: int, minutes: int, seconds: int | None = None, half_of_day: bool = False) -> str:
    """A time of the day: ten thirty, nine oh five, ten o'clock, seventeen hundred."""
    if seconds is not None:
        return f"{cardinal(hours)} {_sixtieth(minutes)} {_sixtieth(seconds)}"
    if minutes:
        return f"{cardinal(hours)} {_sixtieth(minutes)}"
    if half_of_day:
        return cardinal(hours)
    return f"{cardinal(hours)} {'hundred' if hours > 12 else 'hours' if hours == 0 else _O_CLOCK}"


def _sixtieth(value: int) -> str:
    return f"oh {cardinal(value)}" if value < 10 else cardinal(value)


def _join(high: str, low: int) -> str:
    return f"{high} {cardinal(low)}" if low else high
