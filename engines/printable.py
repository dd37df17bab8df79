"""Text that may be printed: what comes from files, names and models never steers a terminal."""

from __future__ import annotations

import re

__all__ = ["printable", "printable_line"]

_STEERING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters but tab and line feed; marks that turn the direction of writing; halves of surrogate pairs."""
_UNSAFE = re.compile(f"[{_STEERING}]")


def printable(text: str) -> str:
    r"""``text`` with what would steer a terminal spelled out, as JSON does: an escape character becomes \u001b."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable_line(text: str) -> str:
    r"""The same on one line: a line feed becomes \u000a, a tab a space."""
    return printable(text).replace("\t", " ").replace("\n", "\\u000a")
