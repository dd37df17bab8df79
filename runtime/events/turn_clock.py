"""Where the time of a turn went: whoever runs the stages notes it; stages know no clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["TurnClock", "Work"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Work:
    """How much was done in a span; whoever does it says so."""

    count: int = 0


class TurnClock:
    """Sums the time of each stage of one turn, and notes when things first happened.

    Args:
        now: a monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._begin = now()
        self._spans: dict[str, float] = {}
        self._marks: dict[str, float] = {}

    @contextmanager
    def span(self, stage: str) -> Iterator[Work]:
        """Add the time inside to ``stage``."""
        work = Work()
        begin = self._now()
        try:
            yield work
        finally:
            end = self._now()
            self._spans[stage] = self._spans.get(stage, 0.0) + end - begin
            self.observe(stage, begin, end, work.count)

    def observe(self, stage: str, begin_s: float, end_s: float, count: int) -> None:
        """A span has ended; for those who want to know each of them."""

    def timed(
        self, stage: str, source: Generator[T, None, R], counted: Callable[[], int] | None = None
    ) -> Generator[T, None, R]:
        """Hand on what ``source`` yields and add the time that it takes to ``stage``; not what its reader does.

        Args:
            counted: how much was done so far; without it every item counts one.
        """
        try:
            while True:
                before = counted() if counted else 0
                with self.span(stage) as work:
                    try:
                        item = next(source)
                    except StopIteration as done:
                        work.count = counted() - before if counted else 0
                        return done.value
                    work.count = counted() - before if counted else 1
                yield item
        finally:
            source.close()

    def mark(self, name: str) -> None:
        """Note the moment, counted from the beginning of the turn; only the first time counts."""
        self._marks.setdefault(name, self._now() - self._begin)

    def latency_ms(self) -> dict[str, float]:
        """Milliseconds: of each stage in the order in which they began, then of the marks."""
        return {name: round(seconds * 1000, 3) for name, seconds in (*self._spans.items(), *self._marks.items())}
