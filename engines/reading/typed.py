"""Frozen dataclasses from what JSON holds of them: every field of its declared type, or an error that names it."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

__all__ = ["build_record"]

T = TypeVar("T")
MAX_MAGNITUDE = 2**63
_MAX_SHOWN = 60


def build_record(kind: type[T], data: Any, where: str, *, strict: bool = False) -> T:
    """A dataclass of scalars, tuples, mappings and further dataclasses, from what JSON holds of it.

    Args:
        strict: refuse fields that ``kind`` does not have; else they are left out, as a newer version's.

    Raises:
        ValueError: a field is missing or has the wrong type; the message names it, with ``where`` in front.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} is not an object")
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    if strict and (unknown := sorted(map(str, set(data) - {field.name for field in fields}))):
        raise ValueError(f"{where} has {', '.join(unknown)}, which nobody knows")
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in fields:
        path = f"{where}.{field.name}"
        if field.name in data:
            values[field.name] = _convert(hints[field.name], data[field.name], path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{path} is missing")
    return kind(**values)


def _convert(hint: Any, value: Any, path: str) -> Any:
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return build_record(hint, value, path)  # type: ignore[arg-type]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _strange(path, value, "a list")
        return tuple(_convert(parts[0], entry, f"{path}[{i}]") for i, entry in enumerate(value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _strange(path, value, "an object")
        return {str(key): _convert(parts[1], entry, f"{path}.{key}") for key, entry in value.items()}
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(parts[0], value, path)
    if origin is typing.Literal:
        if value not in parts:
            raise _strange(path, value, " or ".join(map(repr, parts)))
        return value
    return _scalar(hint, value, path)


def _scalar(hint: Any, value: Any, path: str) -> Any:
    kinds = (int, float) if hint is float else hint
    if not isinstance(value, kinds) or (hint is not bool and isinstance(value, bool)):
        raise _strange(path, value, hint.__name__)
    if hint in (int, float) and not (abs(value) < MAX_MAGNITUDE if hint is int else _is_finite(value)):
        raise _strange(path, value, "a number that fits")
    return float(value) if hint is float else value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _strange(path: str, value: Any, expected: str) -> ValueError:
    shown = repr(value)
    return ValueError(f"{path} is {shown[:_MAX_SHOWN]}{'…' if len(shown) > _MAX_SHOWN else ''}, expected {expected}")
