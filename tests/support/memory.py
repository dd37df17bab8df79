"""What of a file is in memory."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["resident"]


def resident(file: Path) -> int:
    """Bytes of ``file`` that count as memory of this process."""
    entries = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    mine = [entry for entry in entries if entry.partition("\n")[0].endswith(f" {file}")]
    return sum(int(found[1]) << 10 for entry in mine if (found := re.search(r"(?m)^Rss: +(\d+) kB", entry)))
