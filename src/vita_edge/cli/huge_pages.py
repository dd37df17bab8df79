"""Large pages for the weights, which glibc's ``malloc`` has to be told of before a process begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["begin_again_with_huge_pages", "tunables_for_huge_pages"]

VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def begin_again_with_huge_pages() -> None:
    """Execute this command once more, told to ask for large pages; returns where that cannot help or has been done.

    The process keeps its number, its files and its arguments. (docs/decisions/0024)
    """
    reported = tunables_for_huge_pages(os.environ, KERNEL)
    if reported is None or not sys.executable:
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: reported})
    except OSError:  # an interpreter that cannot be found again: pages of the usual size, then
        return


def tunables_for_huge_pages(environment: Mapping[str, str], kernel: Path) -> str | None:
    """What the variable must say; None where the kernel gives none, gives them unasked, or the user has chosen."""
    before = environment.get(VARIABLE, "")
    if TUNABLE in before:
        return None
    try:
        asked = "[madvise]" in kernel.read_text()
    except OSError:  # not Linux, or a kernel without them
        return None
    return ":".join(filter(None, (before, f"{TUNABLE}=1"))) if asked else None
