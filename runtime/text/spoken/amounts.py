"""Numbers with what they count: money, percentages, units, ranges, fractions, telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from . import chinese_numbers as zh
from . import english_numbers as en
from .rules import NUMBER, SIGNED, Rule, rule
from .vocabulary import CODES, CURRENCIES, SCALES, UNITS, Currency

__all__ = ["DECIMAL_COMMA", "PLAIN", "RULES"]

Match = re.Match[str]
Read = Callable[[str], str]


def _one_of(names: object) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))  # type: ignore[call-overload]


_RANGE = rf"(?P<a>{SIGNED})(?:\s?[-–~～]\s?(?P<b>{NUMBER}))?"
_SYMBOL = f"(?P<symbol>{_one_of(CURRENCIES)})"
_SCALE = f"(?P<scale>[\\s-]?(?:{_one_of(SCALES)})\\b|[万亿千]+)?"
_NO_NUMBER = r"(?![\w]|[.,][0-9])"
PER = (
    "lb",
    "kg",
    "oz",
    "h",
    "hr",
    "min",
    "GB",
    "MB",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "person",
    "night",
    "user",
)
_MEASURES = "个只名位人条张本件块头匹辆台次天年周岁点种层座双口把根片颗朵杯瓶碗盘斤吨里米度倍门部分家处句页章段行元"
_LONGER_MEASURES = ("小时", "公里", "公斤", "公分", "千克", "星期", "平方", "立方", "英寸", "英里")
_MODIFIED = re.compile(r"\b(?:an?|the|one|this|that|each|every)\s+$", re.IGNORECASE)
_NOUN = re.compile(r"\s(?!(?:of|in|at|to|and|or|is|was|for|from|with|on|by|the|a|as|are|away|per|than)\b)[a-z]+")
_POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_RATED = re.compile(r"\b(?:scor|rat|giv|gave|got|get)\w*\s+(?:\w+\s+){0,2}$", re.IGNORECASE | re.ASCII)
_FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}


def _to(match: Match, read: Read, to: str, read_last: Read | None = None) -> str | None:
    """A number, or two with ``to`` between them where the first is the smaller one."""
    first, second = match["a"], match["b"]
    read_last = read_last or read
    if second is None:
        return read_last(first)
    return f"{read(first)}{to}{read_last(second)}"


def _before_noun(match: Match) -> bool:
    """Whether it stands between an article and a noun: a ten millimeter drill."""
    return bool(_MODIFIED.search(match.string[: match.start()]) and _NOUN.match(match.string[match.end() :]))


def _english_unit(match: Match) -> str | None:
    unit = UNITS[match["unit"]]
    last = match["b"] or match["a"]
    one = last in ("1", "-1") or _before_noun(match) or match["joint"] == "-"
    words = _to(match, en.number, " to ")
    return f"{words} {unit.singular if one else unit.plural}"


def _chinese_unit(match: Match) -> str | None:
    unit = UNITS[match["unit"]]
    if unit.chinese in ("%", "‰"):
        part = "百分之" if unit.chinese == "%" else "千分之"

        def read(text: str) -> str:
            value = text.lstrip("-")
            whole = "百" if value == "100" and unit.chinese == "%" else zh.number(value)
            return ("负" if value != text else "") + part + whole

        return _to(match, read, "到")
    temperature = unit.chinese.endswith("度")

    def amount(text: str) -> str:
        words = zh.counted(text)
        return words.replace("负", "零下") if temperature else words

    return unit.per + (_to(match, amount, "到") or "") + unit.chinese


def _money(match: Match, currency: Currency) -> str:
    amount, scale = match["a"].lstrip("-"), (match["scale"] or "").strip(" -")
    minus = "minus " if match["sign"] or amount != match["a"] else ""
    if match["b"]:
        return f"{minus}{en.number(amount)} to {en.number(match['b'])} {_scaled(scale)}{currency.plural}"
    whole, _, cents = amount.replace(",", "").partition(".")
    singular = _before_noun(match)
    if len(cents) == 2 and not scale and currency.cent:
        coins = (
            f"{en.cardinal(int(cents))} {currency.cent if int(cents) == 1 else currency.cents}" if int(cents) else ""
        )
        notes = f"{en.number(whole)} {currency.singular if whole == '1' else currency.plural}"
        parts = [notes] if int(whole or 0) or not coins else []
        return minus + " and ".join([*parts, *([coins] if coins else [])])
    one = singular or (amount == "1" and not scale)
    return f"{minus}{en.number(amount)} {_scaled(scale)}{currency.singular if one else currency.plural}"


def _scaled(scale: str) -> str:
    return f"{SCALES[scale]} " if scale in SCALES else ""


def _chinese_money(match: Match, currency: Currency) -> str:
    scale = (match["scale"] or "").strip()
    power = _POWERS.get(SCALES.get(scale, ""))

    def read(amount: str) -> str:
        if power and (value := Decimal(amount.replace(",", "")) * power) == int(value) < 10**15:
            return zh.number(str(int(value)))
        return zh.counted(re.sub(r"\.0+$", "", amount)) + ("" if power else scale)

    return f"{'负' if match['sign'] else ''}{_to(match, read, '到')}{currency.chinese}"


def _school_year(match: Match) -> str:
    return "到".join(map(zh.digits, re.split("[-–]", match[0])))


def _fraction(match: Match) -> str | None:
    whole, top, bottom = match["whole"], int(match["top"]), int(match["bottom"])
    if (top, bottom) == (9, 11) and not whole:
        return "nine eleven"
    if not 0 < top < bottom or bottom > 100:
        return None
    if bottom in (5, 10, 20, 100) and not whole and _RATED.search(match.string[: match.start()]):
        return f"{en.cardinal(top)} out of {en.cardinal(bottom)}"
    if match["unit"]:
        unit = UNITS[match["unit"]]
        return f"{_share(whole, top, bottom)} {unit.plural if whole else unit.singular}"
    return _share(whole, top, bottom)


def _share(whole: str | None, top: int, bottom: int) -> str:
    one, many = _FRACTIONS.get(bottom) or (en.ordinal(bottom), f"{en.ordinal(bottom)}s")
    if whole:
        return (
            f"{en.number(whole)} and {'a' if (top, bottom) == (1, 2) else en.cardinal(top)} {one if top == 1 else many}"
        )
    return f"{en.cardinal(top)} {one if top == 1 else many}"


def _chinese_fraction(match: Match) -> str | None:
    whole, top, bottom = match["whole"], int(match["top"]), int(match["bottom"])
    if not top or not bottom:
        return None
    unit = UNITS[match["unit"]].chinese if match["unit"] else ""
    return f"{zh.number(whole) + '又' if whole else ''}{zh.cardinal(bottom)}分之{zh.cardinal(top)}{unit}"


def _grouped(match: Match) -> str:
    """A telephone number, group by group."""
    plus = "plus " if match[0].lstrip("(").startswith("+") else ""
    return plus + ", ".join(en.digits(group) for group in re.findall("[0-9]+", match[0]))


def _telephone(match: Match) -> str:
    return ("加" if match[0].startswith("+") else "") + zh.telephone(match[0])


def _called(match: Match) -> str:
    return f"{match['call']} {en.digits(match['number'])}"


def _range(match: Match) -> str | None:
    if float(match["a"].replace(",", "")) >= float(match["b"].replace(",", "")) and "-" in match["to"]:
        return None
    return f"{en.number(match['a'])} to {en.number(match['b'])}"


def _chinese_range(match: Match) -> str | None:
    if float(match["a"].replace(",", "")) >= float(match["b"].replace(",", "")) and "-" in match["to"]:
        return None
    return f"{zh.number(match['a'])}到{_before_measure(match['b'], match.string[match.end() :])}"


def _before_measure(text: str, rest: str) -> str:
    """两 before what is counted, except in dates and after 第."""
    following = rest.lstrip()[:1]
    dated = re.match("月|号|日|楼|年级|元素|分之|点[零一二三四五六七八九0-9]", rest.lstrip())
    measured = (following and following in _MEASURES) or rest.startswith(_LONGER_MEASURES)
    return zh.counted(text) if measured and not dated else zh.number(text)


def _chinese_number(match: Match) -> str:
    before, after = match.string[: match.start()], match.string[match.end() :]
    if before.endswith("第"):
        return zh.number(match[0])
    if after.startswith("度") and match[0][:1] in "-":
        return "零下" + zh.number(match[0][1:])
    if match[0] == "2" and after[:1] in "万亿千":
        return "两"
    return _before_measure(match[0], after)


def _per(name: str) -> str:
    return UNITS[name].singular if name in UNITS else name


def _inches(match: Match) -> str | None:
    """12" before a word, unless the mark closes a quotation."""
    if match.string.count('"') % 2 == 0 and '"' in match[0]:
        return None
    return f"{en.number(match['a'])} {'inch' if match['a'] == '1' or _before_noun(match) else 'inches'}"


def _feet(match: Match) -> str:
    return f"{en.number(match['feet'])} foot {en.number(match['inches'])}"


def _screen(match: Match) -> str:
    return " by ".join(en.year(int(size)) if 1000 <= int(size) < 10000 else en.number(size) for size in match.groups())


def _version(match: Match) -> str:
    numbers = " point ".join(en.number(part) for part in match["numbers"].split("."))
    return f"version {numbers}" if match["v"] else numbers


def _chinese_version(match: Match) -> str:
    return (" v " if match["v"] else "") + "点".join(zh.number(part) for part in match["numbers"].split("."))


def _both(pattern: str, english: Callable[[Match], str | None], chinese: Callable[[Match], str | None]) -> Rule:
    return rule(pattern, english, chinese)


def _none(match: Match) -> None:
    return None


DECIMAL_COMMA = re.compile(
    rf"(?<![\w.,])([0-9]+),([0-9]{{1,2}})(?=\s?(?:{_one_of(UNITS)}|[€£])(?![A-Za-z0-9]))", re.ASCII
)
"""22,1 °C as it is written in much of Europe."""

RULES: tuple[Rule, ...] = (
    _both(r"(?<![\w~～℃°%])[~～](?=\s?[$€£¥]?[0-9])", lambda m: "about ", lambda m: "约"),
    _both(rf"(?<=[0-9])/(?P<per>{_one_of(PER)})\b", lambda m: f" per {_per(m['per'])}", _none),
    # telephone numbers
    _both(r"(?<![\w.])\+[0-9]{1,3}(?:[\s-]?\(?[0-9]{1,5}\)?){2,6}(?!\w)", _grouped, _telephone),
    _both(
        r"(?<!\w)\([0-9]{3}\)\s?[0-9]{3}-[0-9]{4}(?!\w)|(?<![\w.-])(?:1-)?[0-9]{3}-[0-9]{3}-[0-9]{4}(?![\w-])",
        _grouped,
        _telephone,
    ),
    _both(r"(?<![\w.-])[0-9]{3}-[0-9]{4}(?![\w-]|\s?[%=])", _grouped, _telephone),
    _both(
        r"(?<![\w.])(?:1[3-9][0-9]{9}|1[3-9][0-9]-[0-9]{4}-[0-9]{4}|0[0-9]{2,3}-[0-9]{7,8}|[48]00-[0-9]{3,4}-[0-9]{3,4})(?!\w)",
        _grouped,
        _telephone,
    ),
    _both(r"(?<=邮编)[0-9]{6}|(?<=邮编[:：])[0-9]{6}", _none, lambda m: zh.digits(m[0])),
    _both(r"(?<![0-9])[0-9]{3,4}(?=室|号房|房间)", _none, _telephone),
    _both(r"(?<![0-9])[12][0-9]{3}[-–][12][0-9]{3}(?=学?年)", _none, _school_year),
    _both(r"(?<=打)[0-9]{3,6}|(?<=电话)[0-9]{3,}|(?<=热线)[0-9]{3,}", _none, _telephone),
    _both(
        r"\b(?P<call>[Cc]all|[Dd]ial|[Pp]hone)\s(?P<number>[0-9]{3})(?![\w,.-]?[0-9])(?=\W|$)(?!\s(?:people|times|numbers|of|men|women))",
        _called,
        _none,
    ),
    # other numbers in groups
    _both(r"(?<![\w.-])[0-9]+(?:-[0-9]+){3,}(?![\w-])", _grouped, lambda m: zh.digits(m[0])),
    # money
    _both(rf"(?<=[0-9])\s?[-–]\s?(?=(?:{_one_of(CURRENCIES)})[0-9])", lambda m: "to", lambda m: "到"),
    _both(
        rf"(?P<sign>(?<![\w)])[-])?{_SYMBOL}\s?{_RANGE}{_SCALE}(?:美?元)?",
        lambda m: _money(m, CURRENCIES[m["symbol"]]),
        lambda m: _chinese_money(m, CURRENCIES[m["symbol"]]),
    ),
    _both(
        rf"(?P<sign>(?<![\w)])[-])?{_RANGE}{_SCALE}\s?(?P<symbol>[€£]|(?:{_one_of(CODES)})\b)",
        lambda m: _money(m, CODES.get(m["symbol"]) or CURRENCIES[m["symbol"]]),
        lambda m: _chinese_money(m, CODES.get(m["symbol"]) or CURRENCIES[m["symbol"]]),
    ),
    _both(
        rf"(?P<sign>(?<![\w)])[-])?\b(?P<symbol>{_one_of(CODES)})\s?{_RANGE}{_SCALE}",
        lambda m: _money(m, CODES[m["symbol"]]),
        lambda m: _chinese_money(m, CODES[m["symbol"]]),
    ),
    _both(
        rf"({NUMBER})\s?¢",
        lambda m: f"{en.number(m[1])} {'cent' if m[1] == '1' else 'cents'}",
        lambda m: f"{zh.number(m[1])}美分",
    ),
    # versions
    _both(r"(?<![\w.])(?P<v>[vV])\.?(?P<numbers>[0-9]+(?:\.[0-9]+)*)(?!\w|\.[0-9])", _version, _chinese_version),
    _both(r"(?<![\w.])(?P<v>)(?P<numbers>[0-9]+(?:\.[0-9]+){2,})(?!\w|\.[0-9])", _version, _chinese_version),
    # fractions
    _both(
        r"(?<![\w./])(?:(?P<whole>[0-9]+) )?(?P<top>[0-9]{1,2})/(?P<bottom>[0-9]{1,3})(?![\w/]|\.[0-9]| ?=)"
        rf"(?:\s(?P<unit>{_one_of(UNITS)})(?![\w/]))?",
        _fraction,
        _chinese_fraction,
    ),
    _both(r"(?<![\w/])(24)/(7)(?![\w/])", lambda m: "twenty four seven", _none),
    _both(
        r"(?<=\D)([0-9]{1,3}):([0-9]{1,7})(?![\w:])",
        lambda m: f"{en.number(m[1])} to {en.number(m[2])}",
        lambda m: f"{zh.number(m[1])}比{zh.number(m[2])}",
    ),
    # units
    _both(r"(?:(?<=[0-9]%)|(?<=℃)|(?<=°[CF]))\s?[-–~～]\s?(?=-?[0-9.]+\s?[%°℃])", lambda m: "to", lambda m: "到"),
    _both(r"(?<!\w)(?P<feet>[1-9])['′’](?P<inches>1[01]|[0-9])(?:[\"″”]|(?=\s|[.,!?]|$))", _feet, _none),
    _both(
        r"(?<![\w.])([0-9]{1,5})\s?[x×X]\s?([0-9]{1,5})(?=\s(?:grid|pixel|image|picture|screen|table|matrix|resolution|px|board))",
        _screen,
        _none,
    ),
    _both(rf'(?P<a>{NUMBER})(?P<b>)["″](?=\s[a-z])', _inches, _none),
    _both(r"(?<![\w.])([0-9]{3,5})[x×]([0-9]{3,5})(?!\w)", _screen, lambda m: f"{zh.number(m[1])}乘{zh.number(m[2])}"),
    _both(
        rf"(?<![A-Za-z]-)(?<![0-9^])(?<![0-9]\.){_RANGE}(?P<joint>[-\s]?)(?P<unit>{_one_of(UNITS)})(?![A-Za-z0-9^²³]|/[A-Za-z]|[-'’][A-Za-z])(?<![a-z0-9]\s[-–]\s.)",
        _english_unit,
        _chinese_unit,
    ),
    _both(
        rf"({NUMBER})\s?[xX](?=\s|[.,!?;:]|$)(?!\s?[0-9=+*/^-])",
        lambda m: f"{en.number(m[1])} times",
        lambda m: f"{zh.counted(m[1])}倍",
    ),
    # ordinals and ranges
    _both(
        r"(?<![\w.,])([0-9]{1,6})(?:st|nd|rd|th)\b", lambda m: en.ordinal(int(m[1])), lambda m: f"第{zh.number(m[1])}"
    ),
    _both(
        rf"(?<![\w.,-])(?P<a>{NUMBER})(?P<to>\s?[–~～]\s?|-)(?P<b>{NUMBER})(?![\w-]|[.,][0-9])", _range, _chinese_range
    ),
)

PLAIN: tuple[Rule, ...] = (_both(rf"{SIGNED}", lambda m: en.number(m[0]), _chinese_number),)
"""What is left when things with names, such as H2O, have been read."""
