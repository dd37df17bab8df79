"""A folder that is written whole or not at all: beside its place first, and given its name at the end."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import Misuse, OutputFailed

__all__ = ["free_place", "whole_folder"]

DISK_RESERVE_BYTES = 64 << 20
"""Left free beside what is written: a disk that is full to the last byte stops whatever else writes to it."""

PARTIAL = ".partial"


def free_place(path: str | Path, refusal: Callable[[Path], Misuse | None]) -> Path:
    """Where a folder named ``path`` will really lie: links are followed, and stay links.

    What would only show at the end, when the folder takes its name, is refused here.

    Args:
        refusal: asked about what is in the way (an empty folder is not); None when it may be replaced.

    Raises:
        Misuse: the place cannot be taken.
        OutputFailed: it cannot be looked at.
    """
    try:
        target = Path(os.path.realpath(path))
        _refuse_what_cannot_be_taken(path, target, refusal)
    except OSError as error:
        raise OutputFailed.from_os_error(path, error) from error
    return target


def _refuse_what_cannot_be_taken(path: str | Path, target: Path, refusal: Callable[[Path], Misuse | None]) -> None:
    if target.is_symlink():
        raise Misuse(f"{path} is a link to itself.", why="It leads nowhere.", fix="Give another name.")
    if not target.exists():
        return
    if target.is_mount():
        raise Misuse(
            f"{path} is where a disk is mounted.",
            why="What is written takes its name as a whole, and this name belongs to the disk.",
            fix="Name a folder in it.",
        )
    if not (target.is_dir() and not any(target.iterdir())) and (refused := refusal(target)):
        raise refused
    here = Path.cwd()
    if target == here or target in here.parents:
        raise Misuse(
            f"{path} is the folder that you are in.",
            why="What is written takes its name as a whole, and you would be left in a folder that is gone.",
            fix="Name a new folder in it, or write from outside.",
        )


@contextmanager
def whole_folder(target: Path, bytes_needed: int, *, what: str, replace: bool = False) -> Iterator[Path]:
    """A folder beside ``target`` (from :func:`free_place`) that takes its name when all went well, and vanishes when
    not; what a killed run has left is swept away. Of two that are written at once, each has a folder of its own.

    Args:
        what: what is written, for messages: ``bundle``.
        replace: give up a folder of that name, once the new one has it; else only an empty one is.

    Raises:
        OutputFailed: no space or no permission; also in place of an OSError of the body.
    """
    fresh = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    partial = fresh.with_name(fresh.name + PARTIAL)
    with ExitStack() as lock:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(target.parent).free
            if free < bytes_needed + DISK_RESERVE_BYTES:
                raise OutputFailed(
                    f"The {what} needs {_mib(bytes_needed)} MiB, and {free >> 20} MiB are free at {target.parent}.",
                    why=f"Another {_mib(DISK_RESERVE_BYTES)} MiB are to stay free beside it. Nothing was written.",
                    fix="Free some space, write to another disk, or choose something smaller.",
                )
            _sweep(target)
            fresh.mkdir()
            lock.enter_context(_locked(fresh))
            fresh.rename(partial)  # held before it has a name that others may sweep away
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
            _take_the_name(partial, target, replace)
        except OSError as error:
            raise OutputFailed.from_os_error(target, error) from error
        finally:
            _remove(fresh)
            _remove(partial)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold ``folder``, if nobody else does; whoever holds it and is killed lets it go."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except OSError:  # by another; or the disk knows no locks, and nothing may be taken for given up
            held = False
        yield held
    finally:
        os.close(handle)


def _sweep(target: Path) -> None:
    """Remove what killed runs have left of ``target``, and nothing that is still written; nothing at all on a disk
    without locks."""
    for left in target.parent.iterdir():
        if left.name.startswith(f".{target.name}.") and left.name.endswith(PARTIAL):
            with suppress(OSError), _locked(left) as given_up:
                if given_up:
                    _remove(left)


def _take_the_name(partial: Path, target: Path, replace: bool) -> None:
    """Rename; what is replaced is given up only when the new folder has its name."""
    old = target.parent / f".{target.name}.old"
    try:
        if os.path.lexists(target):
            if not replace:
                target.rmdir()  # refuses what has appeared there meanwhile
            else:
                _remove(old)
                target.rename(old)
        partial.rename(target)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            old.rename(target)
        raise
    _remove(old)


def _mib(nbytes: int) -> int:
    """Rounded up: so much is enough."""
    return -(-nbytes >> 20)


def _remove(path: Path) -> None:
    """Whatever it is; a link goes, and what it leads to stays."""
    with suppress(OSError):
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
