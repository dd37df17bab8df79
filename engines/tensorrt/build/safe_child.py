"""The command of a Python process that imports from where this one does, and never from the folder it is called in."""

from __future__ import annotations

import sys

__all__ = ["module_command"]

_RUN = (
    "import sys; sys.path[:] = [folder for folder in sys.path if folder]; "
    "from importlib import import_module; sys.exit(import_module({module!r}).main())"
)
"""`-m` puts the current folder on the path, `-c` an empty name for it; -P does neither, since Python 3.11."""


def module_command(module: str) -> list[str]:
    """Run ``main()`` of a module of this product. A ``dataclasses.py`` in somebody's downloads stays unread."""
    return [sys.executable, "-c", _RUN.format(module=module)]
