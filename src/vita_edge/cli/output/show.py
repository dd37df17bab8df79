"""What several commands print alike."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from vita_edge.engines.errors import MissingPackage
from vita_edge.engines.install import install_fix

__all__ = ["count", "export_module", "mib", "optional_module", "print_json", "progress_bar", "table"]


def print_json(facts: Mapping[str, Any]) -> None:
    """One object, a line a key; a list of numbers stays on its line."""
    text = json.dumps(facts, ensure_ascii=False, indent=1)
    print(re.sub(r"\[\n[-+\d.eE,\s]+\]", lambda numbers: "[" + " ".join(numbers[0][1:-1].split()) + "]", text))


def mib(number_of_bytes: float) -> str:
    """Bytes in MiB, one decimal below 100."""
    size = number_of_bytes / 2**20
    return f"{size:,.1f} MiB" if size < 100 else f"{size:,.0f} MiB"


def table(rows: Sequence[tuple[str, ...]], *, left: int = 1) -> str:
    """Columns padded to their width; the first ``left`` columns are flushed left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def count(number: int, thing: str) -> str:
    """``1 token``, ``2 tokens``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def export_module(name: str) -> ModuleType:
    """A module of ``vita_edge.export``."""
    return optional_module(f"export.{name}", "export")


def optional_module(name: str, extra: str) -> ModuleType:
    """A module that needs packages of an extra, which the device that talks does not have."""
    try:
        return importlib.import_module(f"vita_edge.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vita_edge"):
            raise
        raise MissingPackage(
            f"{extra.capitalize()} needs the package {error.name}.",
            why="It is not installed: the device that talks does without.",
            fix=install_fix(extra),
        ) from error


def progress_bar() -> Callable[[str, int, int], None]:
    """A bar on a terminal, nothing elsewhere; called with (what, done, total)."""
    if not sys.stderr.isatty():
        return lambda what, done, total: None
    from tqdm import tqdm

    bar = tqdm(unit="w", unit_scale=True, leave=False, file=sys.stderr)

    def show(what: str, done: int, total: int) -> None:
        if bar.total != total:
            bar.reset(total)
        bar.set_description(what, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return show
