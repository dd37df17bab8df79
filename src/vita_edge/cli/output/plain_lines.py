"""A talk in plain lines, for logs and pipes: one for each thing worth reading."""

from __future__ import annotations

import sys
from collections import deque
from types import TracebackType
from typing import TextIO

from vita_edge.runtime.events.session_events import ClauseHeard, Level, SessionEvent, TalkStateChanged, TurnEnded
from vita_edge.runtime.metrics.turn_report import TurnReport

from .latency import latency_lines
from .talk_so_far import TalkSoFar

__all__ = ["PlainLines"]


class PlainLines:
    """Prints what is said as it is heard, and troubles; with ``latency``, where the time of each turn went."""

    def __init__(self, *, latency: bool, out: TextIO | None = None) -> None:
        self._latency, self._out = latency, out or sys.stdout
        self._posted: deque[SessionEvent | TurnReport] = deque()
        self._talk = TalkSoFar()
        self._ready = False
        self._heard = False
        """Whether any of the reply was printed as it was heard."""

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.draw()

    def __call__(self, event: SessionEvent) -> None:
        if not isinstance(event, Level):
            self._posted.append(event)

    def report(self, report: TurnReport) -> None:
        if self._latency:
            self._posted.append(report)

    def draw(self) -> None:
        """Print what has been posted."""
        while self._posted:
            posted = self._posted.popleft()
            if isinstance(posted, TurnReport):
                self._print("\n".join(latency_lines(posted)))
            else:
                self._take(posted)
        self._out.flush()

    def _take(self, event: SessionEvent) -> None:
        if isinstance(event, TalkStateChanged) and not self._ready:
            self._ready = True
            self._print("listening")
        for said in self._talk.take(event):
            if said.who != "vita" or not self._heard:
                self._print(f"{said.who:<6}{said.text}")
        if isinstance(event, ClauseHeard):
            self._heard = True
            self._print(f"{'vita':<6}{event.text.strip()}")
        if isinstance(event, TurnEnded):
            if self._heard and not event.finished:
                self._print(f"{'vita':<6}…")
            self._heard = False

    def _print(self, line: str) -> None:
        print(line, file=self._out)
