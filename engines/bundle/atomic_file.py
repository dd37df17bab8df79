"""A file that is written whole or not at all: beside its place first, synced, and given its name at the end."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import OutputFailed

__all__ = ["PART", "PRIVATE", "sync_folder", "write_whole"]

PART = ".part"
PRIVATE = 0o600
"""Mode of files that hold what somebody said, showed or heard."""


def write_whole(path: str | Path, content: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Write ``content``; an existing file is replaced and keeps its permissions, and a link stays a link.

    The bytes are on the disk before the name is: after a power cut there is the old file or the new one. The temporary
    file has a name that cannot be guessed and is never reached through a link; what killed runs left of it is removed.

    Args:
        mode: permissions of a new file, less the umask; :data:`PRIVATE` for what users say and show.

    Raises:
        OutputFailed: the file could not be written; one that was there before is as it was.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a device, a pipe: cannot be replaced
            Path(path).write_bytes(content)
            return
        target = Path(path).resolve()
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(target.stat().st_mode)
        _sweep(target)
        beside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}{PART}")
        try:
            _write_synced(beside, content, mode)
            beside.replace(target)
            sync_folder(target.parent)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OutputFailed.from_os_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Put the names in ``folder`` on the disk; nothing where the file system cannot."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_synced(beside: Path, content: bytes | memoryview, mode: int) -> None:
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        with suppress(OSError):  # a disk without locks: leftovers stay there until `vita-edge clean`
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(content)
        file.flush()
        os.fsync(handle)


def _sweep(target: Path) -> None:
    """Remove temporary files of ``target`` that nobody writes any more."""
    for left in target.parent.glob(f".{_literal(target.name[:200])}.*{PART}"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(handle)


def _literal(name: str) -> str:
    """``name`` with nothing in it that a glob would read."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
