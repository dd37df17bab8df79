"""What killed commands left in a folder: found by its form, removed only when nobody holds it."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, OutputFailed
from .atomic_file import PART
from .atomic_folder import PARTIAL, restore, sweep

__all__ = ["Leftover", "clean"]

_FOLDER = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{8}}(?:{re.escape(PARTIAL)})?", re.DOTALL)
_FILE = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{16}}{re.escape(PART)}", re.DOTALL)
_OLD = re.compile(r"\.(?P<name>.+)\.old", re.DOTALL)


@dataclass(frozen=True)
class Leftover:
    """One thing that was found.

    Attributes:
        path: where it lies.
        nbytes: what it takes on the disk.
        done: ``removed``, ``restored`` (it has its name back), or ``found`` (nothing was changed).
    """

    path: Path
    nbytes: int
    done: str


def clean(folder: Path, *, look_only: bool = False) -> list[Leftover]:
    """Remove half-written folders and files in ``folder`` itself, and restore what was moved aside.

    What somebody writes at this moment is held by a lock and stays; so does all on a disk without locks.

    Raises:
        BadInput: there is no such folder.
        OutputFailed: it cannot be read.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", why="Leftovers lie beside what was written.", fix="Check the path.")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise OutputFailed.from_os_error(folder, error) from error
    found: list[Leftover] = []
    for path in entries:
        with suppress(OSError):  # gone meanwhile, or another's: the rest is looked at all the same
            found += _looked_at(path, look_only=look_only)
    return found


def _looked_at(path: Path, *, look_only: bool) -> Iterator[Leftover]:
    if path.is_symlink():
        return
    nbytes = _size(path)
    if path.is_dir() and (old := _OLD.fullmatch(path.name)) and _is_ours(path):
        target = path.with_name(old["name"])
        if not os.path.lexists(target) and (look_only or restore(target)):
            yield Leftover(path if look_only else target, nbytes, "found" if look_only else "restored")
    elif path.is_dir() and (folder := _FOLDER.fullmatch(path.name)):
        if look_only:
            if path.name.endswith(PARTIAL) or not any(path.iterdir()):
                yield Leftover(path, nbytes, "found")
        elif path in sweep(path.with_name(folder["name"])):
            yield Leftover(path, nbytes, "removed")
    elif path.is_file() and _FILE.fullmatch(path.name):
        with _held(path) as free:
            if free:
                if not look_only:
                    path.unlink()
                yield Leftover(path, nbytes, "found" if look_only else "removed")


def _is_ours(folder: Path) -> bool:
    """A bundle or a recording: somebody else's folder may be called ``.x.old`` too."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("format")).startswith("vita-edge")


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Whether the file could be locked, and is locked meanwhile."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
    finally:
        os.close(handle)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else iter((path,))
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())
