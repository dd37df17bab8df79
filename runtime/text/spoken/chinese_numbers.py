"""Numbers in Chinese words."""

from __future__ import annotations

import re

__all__ = ["cardinal", "counted", "digits", "number", "telephone"]

_DIGITS = "零一二三四五六七八九"
_UNITS = ("", "十", "百", "千")
_SCALES = ("", "万", "亿", "万亿")
LONGEST = 15
"""Digits; a longer number is an identifier, and is read digit by digit."""


def cardinal(value: int) -> str:
    """1234 → 一千二百三十四; 2000 → 两千; at most 16 digits."""
    if value == 0:
        return "零"
    groups = []
    while value:
        value, group = divmod(value, 10000)
        groups.append(group)
    spoken = ""
    for power in reversed(range(len(groups))):
        group = groups[power]
        if not group:
            spoken += "" if spoken.endswith("零") else "零"
            continue
        if spoken and group < 1000 and not spoken.endswith("零"):
            spoken += "零"
        spoken += _group(group, scaled=power > 0) + _SCALES[power]
    spoken = spoken.rstrip("零")
    return spoken[1:] if spoken.startswith("一十") else spoken


def digits(text: str) -> str:
    """Digit by digit: 2026 → 二零二六."""
    return "".join(_DIGITS[int(digit)] for digit in text if digit in "0123456789")


def telephone(text: str) -> str:
    """Digit by digit, with 幺 for one."""
    return digits(text).replace("一", "幺")


def number(text: str) -> str:
    """A decimal number as it is written, with or without sign, commas of thousands and decimals."""
    sign = "负" if text[:1] in "-" else ""
    whole, dot, decimals = text.lstrip("-+").replace(",", "").partition(".")
    identifier = len(whole) > LONGEST or (len(whole) > 1 and whole.startswith("0") and not dot)
    spoken = digits(whole) if identifier else cardinal(int(whole or "0"))
    return sign + spoken + (f"点{digits(decimals)}" if dot and decimals else "")


def counted(text: str) -> str:
    """A number before a measure word: 2 → 两."""
    return re.sub(r"^二$", "两", number(text))


def _group(value: int, scaled: bool) -> str:
    """A number below ten thousand; ``scaled`` when 万 or 亿 follows."""
    if value == 2 and scaled:
        return "两"
    spoken, zero = "", False
    for power in (3, 2, 1, 0):
        digit = value // 10**power % 10
        if not digit:
            zero = bool(spoken)
            continue
        named = "两" if digit == 2 and power == 3 else _DIGITS[digit]
        spoken += ("零" if zero else "") + named + _UNITS[power]
        zero = False
    return spoken
