"""A table of settings from a file: values by key, of the right type, or an error that names file and key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import VitaEdgeError
from ..printable import printable
from .file_kind import FileKind

__all__ = ["REQUIRED", "Table", "as_table"]

REQUIRED: Any = object()
_MAX_SHOWN = 80


class Table:
    """Typed access to a JSON object or YAML mapping; ``section`` leads to a nested one. A null counts as absent."""

    def __init__(self, file: Path, values: Mapping[str, Any], kind: FileKind, section: str = "") -> None:
        self.file, self.values, self.kind = file, values, kind
        self._section = section

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def section(self, *keys: str) -> Table:
        here = self
        for key in keys:
            values = here._get(key, REQUIRED)
            if not isinstance(values, Mapping):
                raise here.refusal(key, "It has to be a table of settings.")
            here = self._inner(values, f"{here._section}{key}.")
        return here

    def sections(self, key: str) -> Iterator[tuple[str, Table]]:
        """The tables of a table of tables, by name."""
        outer = self.section(key)
        return ((name, outer.section(name)) for name in outer.values)

    def rows(self, key: str) -> list[Table]:
        """A list of tables."""
        return [
            self._inner(
                self._checked(values, Mapping, key, "It has to be a list of tables."), f"{self._section}{key}[{i}]."
            )
            for i, values in enumerate(self._list(key, REQUIRED))
        ]

    def integer(self, key: str, default: Any = REQUIRED, *, minimum: int | None = 1) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1:  # nan and inf too
            raise self.refusal(key, "It has to be a whole number.")
        if not -(2**63) <= value < 2**63:
            raise self.refusal(key, "It has to be a number of 64 bits.")
        if minimum is not None and value < minimum:
            raise self.refusal(key, f"It has to be {minimum} or more.")
        return int(value)

    def number(self, key: str, default: Any = REQUIRED, *, positive: bool = True) -> float:
        value = self._get(key, default)
        if not _is_number(value):
            raise self.refusal(key, "It has to be a number.")
        if positive and value <= 0:
            raise self.refusal(key, "It has to be more than 0.")
        return float(value)

    def flag(self, key: str, default: Any = REQUIRED) -> bool:
        value = self._get(key, default)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if value not in (True, False):
            raise self.refusal(key, "It has to be true or false.")
        return bool(value)

    def text(self, key: str, default: Any = REQUIRED) -> str:
        """A text; a number is taken as it is written."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.refusal(key, "It has to be a text.")
        return str(value)

    def texts(self, key: str, default: Any = REQUIRED) -> tuple[str, ...]:
        return tuple(self._checked(v, str, key, "It has to be a list of texts.") for v in self._list(key, default))

    def sequence(self, key: str, kind: type, default: Any = REQUIRED) -> tuple[Any, ...]:
        """Whole numbers (``int``), numbers (``float``), or lists of whole numbers (``list``)."""
        value = self._list(key, default)
        inner = [v for row in value for v in row] if kind is list and all(isinstance(v, list) for v in value) else value
        whole = (lambda v: _is_number(v) and isinstance(v, int)) if kind is not float else _is_number
        if not all(map(whole, inner)):
            raise self.refusal(key, f"It has to be a list of {'lists of numbers' if kind is list else 'numbers'}.")
        return tuple(value)

    def must_be(self, key: str, *allowed: object, default: Any = REQUIRED) -> None:
        """Refuse an option that the release does not use and that is not built here."""
        value = self._get(key, default)
        if isinstance(allowed[0], bool):
            value = self.flag(key, default)
        if value not in allowed:
            raise self.refusal(
                key, f"Only {' or '.join(map(repr, allowed))} is supported, which is what VITA-1.5 uses."
            )

    def refusal(self, key: str, why: str) -> VitaEdgeError:
        shown = repr(self.values.get(key))
        shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
        return self.kind.error(
            printable(f"{self.file}: {self._section}{key} is {shown}."), why=why, fix=self._fix_of_values()
        )

    def _fix_of_values(self) -> str:
        return self.kind.fix

    def _inner(self, values: Mapping[str, Any], section: str) -> Table:
        return type(self)(self.file, values, self.kind, section)

    def _list(self, key: str, default: Any) -> Sequence[Any]:
        value = self._get(key, default)
        return self._checked(value, (list, tuple), key, "It has to be a list.")

    def _checked(self, value: Any, kind: Any, key: str, why: str) -> Any:
        if not isinstance(value, kind):
            raise self.refusal(key, why)
        return value

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is not None:
            return value
        if default is REQUIRED:
            raise self._absent(key)
        return default

    def _absent(self, key: str) -> VitaEdgeError:
        return self.kind.error(
            f"{self.file} has no {self._section}{key}.", why="It has to be there.", fix=self.kind.fix
        )


def as_table(file: Path, values: Any, kind: FileKind) -> Table:
    """Raises the error of ``kind`` when the outermost level is something else."""
    if not isinstance(values, dict):
        raise kind.refusal(file, "Its outermost level has to be a table: keys and values.")
    return Table(file, values, kind)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
