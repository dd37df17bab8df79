"""How a live talk is shown: on a screen where there is one, in plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Protocol

from vita_edge.runtime.events.session_events import SessionEvent
from vita_edge.runtime.metrics.turn_report import TurnReport

from .plain_lines import PlainLines

__all__ = ["TalkView", "open_view"]


class TalkView(Protocol):
    """Shows a talk. It is called with what happens from any thread; ``draw`` is called by the main thread alone."""

    def __call__(self, event: SessionEvent) -> None: ...
    def report(self, report: TurnReport) -> None: ...
    def draw(self) -> None: ...
    def __enter__(self) -> TalkView: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_view(*, latency: bool, plain: bool = False) -> TalkView:
    """A screen where standard output is a terminal that can be drawn on and rich is installed, else plain lines."""
    if plain or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return PlainLines(latency=latency)
    try:
        from .rich_screen import Screen
    except ModuleNotFoundError:  # of the extra ``live``; a talk does without
        return PlainLines(latency=latency)
    return Screen(latency=latency)
