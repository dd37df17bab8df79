"""A file that is written whole or not at all: beside its place first, and given its name at the end."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OutputFailed

__all__ = ["write_whole"]


def write_whole(path: str | Path, content: bytes | memoryview) -> None:
    """Write ``content``; an existing file is replaced, and a link stays a link.

    Raises:
        OutputFailed: the file could not be written; one that was there before is as it was.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a device, a pipe: cannot be replaced
            Path(path).write_bytes(content)
            return
        target = Path(path).resolve()
        beside = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
        try:
            beside.write_bytes(content)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OutputFailed.from_os_error(path, error) from error
