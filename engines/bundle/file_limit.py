"""How large a file a disk holds: asked before hours are spent on one that it refuses at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import OutputFailed

__all__ = ["check_file_sizes", "max_file_bytes"]

FAT32_BYTES = (1 << 32) - 1
LIMITED = {"vfat": FAT32_BYTES, "msdos": FAT32_BYTES}
"""File system → its largest file."""
MOUNTS = Path("/proc/self/mounts")


def check_file_sizes(folder: Path, sizes: Mapping[str, int], mounts: Path = MOUNTS) -> None:
    """Refuse to write files of these ``sizes`` below ``folder`` where its file system holds none so large.

    Raises:
        OutputFailed: names the largest file and the limit.
    """
    limit = max_file_bytes(folder, mounts)
    name, size = max(sizes.items(), key=lambda entry: entry[1], default=("", 0))
    if limit is not None and size > limit:
        raise OutputFailed(
            f"{name} will have {size / 2**30:.1f} GiB, and {folder} is on FAT32, which holds files below 4 GiB.",
            why="Nothing was written.",
            fix="Format the disk as exFAT or ext4, write elsewhere, or choose a precision with smaller files: int4 "
            "with --no-int8-prefill.",
        )


def max_file_bytes(folder: Path, mounts: Path = MOUNTS) -> int | None:
    """Of the file system that ``folder`` lies on, or will; None where there is no limit that matters."""
    place = os.path.realpath(folder)
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = "", ""
    for fields in (line.split() for line in lines):
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return LIMITED.get(kind)
