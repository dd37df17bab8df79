"""A file that a command is to write: looked at before anything is computed, not when hours of it would be lost."""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path

from vita_edge.engines.errors import Misuse

__all__ = ["add_force", "check_output", "free_name"]

WAV = (".wav",)


def add_force(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    group.add_argument("--force", action="store_true", help="overwrite existing files")


def check_output(path: Path | None, *, suffixes: tuple[str, ...] = (), force: bool = False) -> None:
    """Refuse a place that cannot be written, holds something already, or is called what it is not.

    A device, a pipe or a terminal is written to as it is.

    Args:
        suffixes: endings that fit what is written; a name without any fits too.
        force: replace a file.

    Raises:
        Misuse: says which of these.
    """
    if path is None:
        return
    if path.is_dir():
        raise Misuse(f"{path} is a folder.", why="The result goes into a file.", fix="Name a file in it.")
    if not path.parent.is_dir():
        raise Misuse(
            f"There is no folder {path.parent}.",
            why=f"{path.name} would be written there.",
            fix="Create it, or choose another place.",
        )
    if path.exists() and not path.is_file():
        return
    if suffixes and path.suffix and path.suffix.lower() not in suffixes:
        ending = " or ".join(suffixes)
        raise Misuse(
            f"{path} would not be what its name says.",
            why=f"It is written as {ending.replace('.', '').upper()}, and the name ends in {path.suffix}.",
            fix=f"Let it end in {ending}; another program can convert it.",
        )
    if path.exists() and not force:
        raise Misuse(f"{path} exists.", why="It would be replaced.", fix="Choose another name, or give --force.")


def free_name(path: Path) -> Path:
    """``path``, or where that exists, the first of ``reply-2.wav``, ``reply-3.wav`` … that does not."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())
