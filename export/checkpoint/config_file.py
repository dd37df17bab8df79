"""One JSON or YAML file of settings: values by key, of the right kind, or an error that names file and key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vita_edge.engines.errors import BadCheckpoint

__all__ = ["REQUIRED", "ConfigFile", "read_json", "read_yaml"]

REQUIRED: Any = object()


class ConfigFile:
    """A table of settings with typed access; ``section`` leads to a nested one."""

    def __init__(self, file: Path, values: Mapping[str, Any], section: str = "") -> None:
        self.file = file
        self.values = values
        self._section = section

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def section(self, *keys: str) -> ConfigFile:
        here = self
        for key in keys:
            values = here._get(key, REQUIRED)
            if not isinstance(values, Mapping):
                raise here.refusal(key, "It is a table of settings in the release.")
            here = ConfigFile(self.file, values, f"{here._section}{key}.")
        return here

    def integer(self, key: str, default: Any = REQUIRED, *, at_least: int | None = 1) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1:  # nan and inf too
            raise self.refusal(key, "It has to be a whole number.")
        if at_least is not None and value < at_least:
            raise self.refusal(key, f"It has to be {at_least} or more.")
        return int(value)

    def number(self, key: str, default: Any = REQUIRED, *, positive: bool = True) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
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
        return str(self._get(key, default))

    def sequence(self, key: str, kind: type, default: Any = REQUIRED) -> tuple[Any, ...]:
        """Whole numbers (``int``), numbers (``float``), or lists of whole numbers (``list``)."""
        value = self._get(key, default)
        allowed = (int, float) if kind is float else kind
        if not isinstance(value, Sequence) or any(isinstance(v, bool) or not isinstance(v, allowed) for v in value):
            raise self.refusal(key, f"It has to be a list of {'lists' if kind is list else 'numbers'}.")
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

    def refusal(self, key: str, why: str) -> BadCheckpoint:
        return BadCheckpoint(
            f"{self.file}: {self._section}{key} is {self.values.get(key)!r}.",
            why=why,
            fix="Use the release's own file; if this is another model than VITA-1.5, it cannot be exported.",
        )

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is not None:
            return value
        if default is REQUIRED:
            raise BadCheckpoint(
                f"{self.file} has no {self._section}{key}.",
                why="Sizes and options are read from the checkpoint's own files; none is guessed.",
                fix="Use the release's own file, unchanged.",
            )
        return default


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise _unreadable(file, error) from error
    except ValueError as error:
        raise _not_parsed(file, "JSON", error) from error


def read_yaml(file: Path) -> ConfigFile:
    try:
        values = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise _unreadable(file, error) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _not_parsed(file, "YAML", error) from error
    return as_table(file, values)


def as_table(file: Path, values: Any) -> ConfigFile:
    if not isinstance(values, dict):
        raise BadCheckpoint(
            f"{file} is not a table of settings.",
            why="Its outermost level has to be keys and values.",
            fix="Download this file again.",
        )
    return ConfigFile(file, values)


def _unreadable(file: Path, error: OSError) -> BadCheckpoint:
    return BadCheckpoint(
        f"{file} cannot be read.",
        why=f"{error.strerror or error}.",
        fix="Download the whole release, and name its main folder (the one with config.json).",
    )


def _not_parsed(file: Path, kind: str, error: Exception) -> BadCheckpoint:
    return BadCheckpoint(f"{file} is not valid {kind}.", why=f"{error}.", fix="Download this file again.")
