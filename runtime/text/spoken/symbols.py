"""Signs of arithmetic, Greek letters, and other signs, in words."""

from __future__ import annotations

import re

from .rules import Rule, rule

__all__ = ["RULES"]

_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρστυφχψω",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi "
        "chi psi omega".split(),
    )
)
_GREEK |= {letter.upper(): name for letter, name in _GREEK.items()} | {"ς": "sigma", "ϕ": "phi"}
_POWERS = {"2": ("squared", "的平方"), "3": ("cubed", "的立方")}
_FUNCTIONS = {
    "sin": ("sine of", "正弦"),
    "cos": ("cosine of", "余弦"),
    "tan": ("tangent of", "正切"),
    "log": ("log of", "对数"),
    "ln": ("natural log of", "自然对数"),
    "exp": ("e to the power of", "e的幂"),
    "sqrt": ("square root of", "根号"),
    "abs": ("absolute value of", "绝对值"),
}


def _sign(pattern: str, english: str, chinese: str) -> Rule:
    return rule(pattern, lambda m: english, lambda m: chinese)


def _of(pattern: str) -> Rule:
    return rule(pattern, lambda m: f"{m[1]} of {m[2]}", lambda m: f" {m[1]} {m[2]} ")


def _power(match: re.Match[str], language: int) -> str:
    power = match[1].strip("{}()")
    if power in _POWERS:
        return _POWERS[power][language]
    return f"to the power of {power}" if language == 0 else f"的{power}次方"


def _function(match: re.Match[str], language: int) -> str:
    return f"{_FUNCTIONS[match[1].lower()][language]} ("


_END = r"(?<=[\w)\]}])\s*"
_BEGIN = r"\s*(?=[\w([√.-])"

RULES: tuple[Rule, ...] = (
    rule(r"\^([0-9A-Za-z]+|\{[^{}]*\}|\([^()]*\))", lambda m: _power(m, 0), lambda m: _power(m, 1)),
    _of(r"\b([a-z])\(([a-z])\)"),
    rule(rf"\b({'|'.join(_FUNCTIONS)})\s?\(", lambda m: _function(m, 0), lambda m: _function(m, 1)),
    _sign(r"√", "square root of", "根号"),
    _sign(r"!=|≠|<>", "not equal to", "不等于"),
    _sign(r">=|≥|⩾", "greater than or equal to", "大于等于"),
    _sign(r"<=|≤|⩽", "less than or equal to", "小于等于"),
    _sign(r"[-=]>|→|⇒|➜", "to", "到"),
    _sign(r"<-|←", "from", "来自"),
    _sign(r"≈|≃", "approximately", "约等于"),
    _sign(r"±|\+/-", "plus or minus", "正负"),
    _sign(r"==?", "equals", "等于"),
    _sign(r"&&?", "and", "和"),
    _sign(r"(?<=\bC)\+\+", "plus plus", "加加"),
    _sign(r"(?<=\b[CF])#", "sharp", "sharp"),
    _sign(r"\+", "plus", "加"),
    _sign(rf"{_END}×{_BEGIN}|(?<=[0-9)])\s*\*{_BEGIN}|(?<=\w)\s+\*\s+(?=\w)", "times", "乘"),
    _sign(r"÷|(?<=[0-9)])\s+/\s+(?=[0-9(])|(?<=[0-9π])/(?=[0-9])", "divided by", "除以"),
    _sign(r"(?<=[0-9)])\s?[-–]\s?(?=[0-9(])|(?<=\b\w)\s[-]\s(?=\w\b)", "minus", "减"),
    _sign(
        r"(?:(?<=\b[a-z0-9])|(?<=\)))\s+-\s+(?=[a-z]\b|[0-9(])|(?:(?<=squared)|(?<=cubed))\s+-\s+(?=\w)", "minus", "减"
    ),
    _sign(r"(?<=[(=,])\s*-(?=[a-z]\b)", "minus", "负"),
    _sign(r"(?<=\))\s*/\s*(?=\w)", "divided by", "除以"),
    _sign(r"(?<=[\w)])\s*>\s*(?=[\w(-])", "greater than", "大于"),
    _sign(r"(?<=[\w)])\s*<\s*(?=[\w(-])", "less than", "小于"),
    _sign(r"∞", "infinity", "无穷大"),
    _sign(r"#(?=[0-9])", "number", "第"),
    _sign(r"#(?=[^\s0-9#])", "hashtag", "话题"),
    _sign(r"@", "at", "at"),
    _sign(r"§", "section", "第"),
    _sign(r"%|％", "percent", "百分号"),
    _sign(r"°", "degrees", "度"),
    _sign(r"€", "euros", "欧元"),
    _sign(r"£", "pounds", "英镑"),
    rule(r"[α-ωΑ-Ωςϕ]", lambda m: _GREEK.get(m[0]), lambda m: "派" if m[0] == "π" else f" {_GREEK.get(m[0], m[0])} "),
)
