"""The page of the command line: what it lists, and what a command prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["documented_keys", "printed_keys", "section"]

CLI_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md").read_text("utf-8")


def section(command: str) -> str:
    """What the reference says about a command."""
    found = re.search(rf"^## vita-edge {command}\n(.*?)(?=^## |\Z)", CLI_PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"cli.md has no section on {command}"
    return found[1]


def documented_keys(command: str) -> set[str]:
    """Keys in the table ``| JSON key | value |`` of a command."""
    table = re.search(r"^\| JSON key \|.*\n\|[-|]+\n((?:\|.*\n)+)", section(command), re.MULTILINE)
    assert table, f"cli.md does not list the JSON keys of {command}"
    return {key for row in table[1].splitlines() for key in re.findall(r"`([^`]+)`", row.split("|")[1])}


def printed_keys(value: Any, reported: set[str], path: str = "") -> Iterator[str]:
    """Keys of a printed object, no deeper than they are documented."""
    deeper = any(key.startswith((f"{path}.", f"{path}[]")) for key in reported) or not path
    if path in reported:
        yield path
    if isinstance(value, dict) and deeper:
        for name, inner in value.items():
            any_name = f"{path}.NAME"
            wild = any(key == any_name or key.startswith(f"{any_name}.") for key in reported)
            yield from printed_keys(inner, reported, any_name if wild else f"{path}.{name}".lstrip("."))
    elif isinstance(value, list) and deeper:
        for inner in value:
            yield from printed_keys(inner, reported, f"{path}[]")
    elif path not in reported:
        yield path
