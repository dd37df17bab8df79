"""JSON from files: bounded in depth and in numbers, without keys that stand twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .file_kind import MAX_BYTES, FileKind, not_what_it_seems, read_bytes

__all__ = ["MAX_DEPTH", "parse_json", "read_json"]

MAX_DEPTH = 100
"""Levels of lists and objects; the files of checkpoints, bundles and recordings have fewer than ten."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(file: Path, kind: FileKind, *, finite: bool = True, max_bytes: int = MAX_BYTES) -> Any:
    """What a JSON file holds, in UTF-8, UTF-16 or UTF-32.

    Args:
        finite: refuse NaN and what is too large for a float. Config files of checkpoints may have infinities where
            nobody looks; typed access refuses them where somebody does.

    Raises:
        the error of ``kind``: the file cannot be read, or is not JSON.
    """
    raw = read_bytes(file, kind, max_bytes)
    if why := not_what_it_seems(raw):
        raise kind.refusal(file, why)
    try:
        return parse_json(raw, finite=finite)
    except ValueError as error:
        raise kind.refusal(file, f"It is not valid JSON: {error}.") from error


def parse_json(raw: bytes | str, *, finite: bool = True) -> Any:
    """The value of a JSON text; integers beyond 64 bits become floats.

    Raises:
        ValueError: it is no JSON, nested too deeply, has a key twice, half of a surrogate pair, or (with ``finite``) a
            number that is none.
    """
    text = raw.decode(json.detect_encoding(raw)) if isinstance(raw, bytes) else raw
    text = text.removeprefix("\ufeff")

    def number(digits: str) -> float:
        value = float(digits)
        if finite and not abs(value) < float("inf"):
            raise ValueError(f"{digits[:20]}{'…' if len(digits) > 20 else ''} is too large for a number, or is none")
        return value

    def integer(digits: str) -> int | float:
        return int(digits) if len(digits) < 19 else number(digits)

    try:
        value = json.loads(
            text, parse_int=integer, parse_float=number, parse_constant=number, object_pairs_hook=_object
        )
    except RecursionError as error:
        raise ValueError(f"it is nested in more than {MAX_DEPTH} levels") from error
    _check_depth(value)
    if _SURROGATE.search(text):
        _check_encodable(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"the key {twice!r} stands in it twice")
    return table


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested in more than {MAX_DEPTH} levels")
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list)))
        level = [v for values in inner for v in values if isinstance(v, (dict, list))]


def _check_encodable(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a text in it holds half of a surrogate pair, {error.object[error.start]!a}") from error
