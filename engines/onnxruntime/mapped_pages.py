"""Pages of mapped files: what was read once and is not needed again need not count as memory of this process."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["forget_pages"]

SMAPS = Path("/proc/self/smaps")
MADV_DONTNEED = 4
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (?:\S+ +){4}(/.*)$")
"""7f12-7f34 rw-p 00400000 fe:00 1234    /a path, with spaces"""


def forget_pages(file: Path) -> int:
    """Let go of the resident pages of every mapping of ``file``; returns how many mappings there are.

    Nothing is lost: a page that is touched again comes back from the page cache or the disk. Mappings of which pages
    were written to are left alone. Elsewhere than on Linux, or where the system refuses, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return 0
    try:
        requested = str(file.resolve())
        mappings = [(start, stop) for path, start, stop in _unwritten_mappings() if path == requested]
    except OSError:
        return 0
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for start, stop in mappings:
        advise(start, stop - start, MADV_DONTNEED)
    return len(mappings)


def _unwritten_mappings() -> Iterator[tuple[str, int, int]]:
    """Path, start and end of the mapped files of this process, without those that have private pages."""
    path, start, stop = "", 0, 0
    with SMAPS.open("r", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if found := MAPPING.match(line):
                start, stop, path = int(found[1], 16), int(found[2], 16), found[3]
            elif line.startswith("Anonymous:"):
                if path and int(line.split()[1]) == 0:
                    yield path, start, stop
                path = ""
