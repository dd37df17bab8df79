"""Web addresses, e-mail addresses, file names and paths, read sign by sign."""

from __future__ import annotations

import re

from . import chinese_numbers, english_numbers
from .acronyms import spelled
from .rules import Language, Rule, rule

__all__ = ["RULES"]

_ENGLISH = {
    ".": "dot",
    "/": "slash",
    "-": "dash",
    "_": "underscore",
    "?": "question mark",
    "=": "equals",
    "&": "and",
    "@": "at",
    ":": "colon",
    "#": "hash",
    "%": "percent",
    "+": "plus",
    "~": "tilde",
}
_CHINESE = _ENGLISH | {
    ".": "点",
    "/": "斜杠",
    "-": "杠",
    "_": "下划线",
    "?": "问号",
    "=": "等于",
    "&": "和",
    "#": "井号",
}
_PIECES = re.compile(r"[0-9]+|[A-Za-z]+|.", re.DOTALL)
_ENDINGS = "com org net edu gov io ai cn de uk us fr jp eu dev app tv info"
_FILES = (
    "md txt py js ts json csv pdf png jpg jpeg gif svg html css exe zip tar gz mp mp3 mp4 wav doc docx xls xlsx ppt "
    "yml yaml toml ini cfg log sh c h cpp rs go java rb php sql xml onnx bin so dll"
)
_FILE_NAMES = {"txt": "text"}
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PATH = r"(?:[/?#][\w\-./?=&%#~+:@]*[\w/=])?/?"
_PORT = r"(?::[0-9]+)?"


def _read(text: str, language: Language) -> str:
    signs = _CHINESE if language == "zh" else _ENGLISH
    numbers = chinese_numbers if language == "zh" else english_numbers
    words = []
    for piece in _PIECES.findall(text):
        if piece.isdigit():
            words.append(numbers.digits(piece) if len(piece) > 4 else numbers.number(piece))
        elif piece.isalpha() and piece.isascii():
            words.append(_FILE_NAMES.get(piece) or ("w w w" if piece == "www" else spelled(piece)))
        else:
            words.append(signs.get(piece, piece))
    return " ".join(words)


def _rule(pattern: str, group: int | str = 0, flags: int = 0) -> Rule:
    return rule(pattern, lambda m: _read(m[group], "en"), lambda m: f" {_read(m[group], 'zh')} ", flags)


def _numbered(text: str, language: Language) -> str:
    digits, dot = (chinese_numbers.digits, "点") if language == "zh" else (english_numbers.digits, " dot ")
    return dot.join(map(digits, text.split(".")))


RULES = (
    rule(r"(?<![\w.)/])\.(?=[A-Za-z]{2,4}\b)(?!\.)", lambda m: "dot", lambda m: "点"),
    _rule(r"[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", flags=re.ASCII),
    rule(
        r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])",
        lambda m: _numbered(m[0], "en"),
        lambda m: _numbered(m[0], "zh"),
    ),
    _rule(rf"(?:https?|ftp|rtsp|file)://+(?P<rest>[\w.-]*\w{_PORT}{_PATH})", "rest", re.ASCII | re.IGNORECASE),
    _rule(rf"(?<![\w@.])www\.[\w.-]*\w{_PORT}{_PATH}", flags=re.ASCII | re.IGNORECASE),
    _rule(rf"(?<![\w@.])(?:{_HOST}\.)+(?:{'|'.join(_ENDINGS.split())})\b{_PORT}{_PATH}", flags=re.ASCII),
    _rule(r"(?<![\w/\\)\]α-ωΑ-Ω])~?(?:/[\w.-]*\w)+/?(?![\w/])(?<=/\w|\w\w|\w/)", flags=re.ASCII),
    _rule(rf"(?<![\w.])[A-Za-z_][\w-]*(?:\.(?:{'|'.join(_FILES.split())}))+(?!\w)", flags=re.ASCII),
    rule(r"\\(?=\w)|(?<=\w):(?=\\)", lambda m: "", lambda m: ""),
)
