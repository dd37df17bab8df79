"""Typed keys do not spoil the screen, and the terminal is as before afterwards."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator

import pytest

from vita_edge.cli.output.quiet_terminal import quiet_terminal

termios = pytest.importorskip("termios")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """The two ends of a terminal, of which one is standard input."""
    master, slave = os.openpty()
    with open(slave, closefd=True) as stdin:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master, slave
    os.close(master)


def echoes(number: int) -> bool:
    return bool(termios.tcgetattr(number)[3] & termios.ECHO)


def test_what_is_typed_is_not_shown_while_the_screen_is_drawn(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    assert echoes(slave)
    with quiet_terminal():
        assert not echoes(slave)
        assert termios.tcgetattr(slave)[3] & termios.ISIG  # Ctrl-C still interrupts
        os.write(master, b"hello\n")
        assert sys.stdin.readline() == "hello\n"  # and Enter is still read
    assert echoes(slave)


def test_the_terminal_is_restored_after_an_error(terminal: tuple[int, int]) -> None:
    with pytest.raises(KeyboardInterrupt), quiet_terminal():
        raise KeyboardInterrupt
    assert echoes(terminal[1])


def test_without_a_terminal_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x"))
    with quiet_terminal():
        pass
    monkeypatch.setattr(sys, "stdin", None)
    with quiet_terminal():
        pass
