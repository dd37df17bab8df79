"""Standard output and standard error for a command: whatever it prints, no text steers the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO, Any, cast

from vita_edge.engines.printable import printable

__all__ = ["bare", "safe_streams"]


class _SafeStream:
    """A text stream that spells control characters out."""

    def __init__(self, stream: IO[str]) -> None:
        self.bare = stream

    def write(self, text: str) -> int:
        return self.bare.write(printable(text))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)


class _SafeProgress(_SafeStream):
    """The same, and a carriage return at either end passes: progress is written over itself."""

    def write(self, text: str) -> int:
        inner = text.strip("\r")
        return self.bare.write(text.replace(inner, printable(inner), 1) if inner else text)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Print through these for a while; a stream that is closed stays closed."""
    out = None if sys.stdout is None else cast(IO[str], _SafeStream(sys.stdout))
    err = None if sys.stderr is None else cast(IO[str], _SafeProgress(sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield


def bare(stream: IO[str]) -> IO[str]:
    """What lies below: for a library that draws on the terminal, and is given nothing but printable text."""
    return cast(IO[str], getattr(stream, "bare", stream))
