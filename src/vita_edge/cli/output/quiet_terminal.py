"""A terminal that does not show what is typed while a screen is drawn on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["quiet_terminal"]


@contextmanager
def quiet_terminal() -> Iterator[None]:
    """Switch the echo of standard input off, where that is a terminal, and on again at the end.

    Ctrl-C and Enter mean what they always do. What was typed and not read is thrown away at the end, so that no shell
    takes it for a command.
    """
    try:
        import termios

        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
    except (ImportError, OSError, ValueError, AttributeError, termios.error):
        yield  # no terminal
        return
    quiet = list(before)
    quiet[3] &= ~(termios.ECHO | termios.ECHONL)
    termios.tcsetattr(number, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        with suppress(OSError, termios.error):  # it may have hung up
            termios.tcsetattr(number, termios.TCSAFLUSH, before)
