"""A folder that is written whole or not at all: beside its place first, and given its name at the end."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import Misuse, OutputFailed
from .atomic_file import sync_folder

__all__ = ["PARTIAL", "PRIVATE", "free_place", "restore", "sweep", "whole_folder"]

DISK_RESERVE_BYTES = 64 << 20
"""Left free beside what is written: a disk that is full to the last byte stops whatever else writes to it."""

PARTIAL = ".partial"
PRIVATE = 0o700
"""Mode of folders that hold what somebody said, showed or heard."""


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
        restore(target)
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
def whole_folder(
    target: Path, bytes_needed: int, *, what: str, replace: bool = False, mode: int = 0o777
) -> Iterator[Path]:
    """A folder beside ``target`` (from :func:`free_place`) that takes its name when all went well, and vanishes when
    not; what killed runs left is removed first. Of two that are written at once, each has a folder of its own.

    Args:
        what: what is written, for messages: ``bundle``.
        replace: give up a folder of that name, once the new one has it; else only an empty one is.
        mode: permissions of the folder, less the umask; :data:`PRIVATE` for what users say and show.

    Raises:
        OutputFailed: no space or no permission; also in place of an OSError of the body.
    """
    fresh = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    partial = fresh.with_name(fresh.name + PARTIAL)
    with ExitStack() as lock:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            restore(target)
            sweep(target)
            free = shutil.disk_usage(target.parent).free
            if free < bytes_needed + DISK_RESERVE_BYTES:
                raise OutputFailed(
                    f"The {what} needs {_mib(bytes_needed)} MiB, and {free >> 20} MiB are free at {target.parent}.",
                    why=f"Another {_mib(DISK_RESERVE_BYTES)} MiB are to stay free beside it. Nothing was written.",
                    fix="Free some space, write to another disk, or choose something smaller.",
                )
            fresh.mkdir(mode)
            lock.enter_context(_locked(fresh))
            fresh.rename(partial)  # locked before it has a name that others may sweep
            yield partial
            _sync(partial)
            _take_the_name(partial, target, replace)
            sync_folder(target.parent)
        except OSError as error:
            raise OutputFailed.from_os_error(target, error) from error
        finally:
            _remove(fresh)
            _remove(partial)


def restore(target: Path) -> bool:
    """Give ``target`` back the folder that a killed run had moved aside; True when there was one.

    Only where nothing has that name and nobody is writing it at this moment.
    """
    old = _old(target)
    try:
        if os.path.lexists(target) or not old.is_dir() or old.is_symlink():
            return False
        with ExitStack() as locks:
            for left in _leftovers(target):
                if left.is_dir() and not locks.enter_context(_locked(left)):
                    return False
            old.rename(target)
        sync_folder(target.parent)
    except OSError:  # another run has just restored it, or the disk is read-only
        return target.is_dir()
    return True


def sweep(target: Path) -> list[Path]:
    """Remove what killed runs left of ``target``, and nothing that is still written (nothing at all on a disk without
    locks); returns what was removed."""
    removed = []
    for left in _leftovers(target):
        with suppress(OSError), _locked(left) as given_up:
            if given_up:
                _remove(left)
                removed.append(left)
    return removed


def _leftovers(target: Path) -> list[Path]:
    """Folders of killed runs: ``.NAME.HEX.partial``, or ``.NAME.HEX`` of one that was killed before it wrote."""
    form = re.compile(rf"\.{re.escape(target.name)}(\.[0-9a-f]{{8}})?({re.escape(PARTIAL)})?")
    return [
        left
        for left in target.parent.iterdir()
        if (match := form.fullmatch(left.name))
        and any(match.groups())
        and left.is_dir()
        and (match[2] or _is_empty(left))
    ]


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _old(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def _sync(folder: Path) -> None:
    """Put all bytes and names below ``folder`` on the disk."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())


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


def _take_the_name(partial: Path, target: Path, replace: bool) -> None:
    """Rename; what is replaced is given up only when the new folder has its name."""
    old = _old(target)
    if os.path.lexists(target) and replace:
        if _exchange(partial, target):  # at no moment is there nothing of that name
            return
        _remove(old)
        target.rename(old)
    elif os.path.lexists(target):
        target.rmdir()  # refuses what has appeared there meanwhile
    try:
        partial.rename(target)
    except BaseException:
        restored = os.path.lexists(old) and not os.path.lexists(target)
        if restored:
            old.rename(target)
        raise
    _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders take each other's names in one step; False where system or disk cannot (renameat2 of Linux)."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return renameat2 is not None and not renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange)


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
