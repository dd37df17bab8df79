"""Hands events to observers, from whatever thread they come."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from time import monotonic
from typing import get_args

from ..events.session_events import Observer, SessionEvent, Span, Stage, Trouble
from ..events.turn_clock import TurnClock

__all__ = ["EventBus", "StageClock"]

LOG = logging.getLogger("vita_edge")


class EventBus:
    """Calls the observers, one at a time.

    An observer that raises is not called again, and spoils nothing: the others get a :class:`Trouble` event that says
    so, and its traceback goes to the logger ``vita_edge``, once.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self._lock = threading.RLock()
        self.errors: list[Exception] = []
        """What observers have raised."""

    def __call__(self, event: SessionEvent) -> None:
        with self._lock:
            for observer in list(self._observers):
                try:
                    observer(event)
                except Exception as error:
                    self._leave_out(observer, error)

    def _leave_out(self, observer: Observer, error: Exception) -> None:
        if observer not in self._observers:
            return
        self._observers.remove(observer)
        self.errors.append(error)
        name = getattr(observer, "__qualname__", type(observer).__name__)
        LOG.error("The observer %s raised an error and is not called any more.", name, exc_info=error)
        self(
            Trouble(
                monotonic(),
                f"The observer {name} raised {type(error).__name__}: {error}",
                "It is not called any more; the session goes on.",
                "Catch errors in the observer.",
            )
        )


class StageClock(TurnClock):
    """A clock that emits a :class:`Span` for every piece of work."""

    def __init__(self, emit: EventBus, response: int | None) -> None:
        super().__init__(monotonic)
        self._emit, self._response = emit, response

    def observe(self, stage: str, begin_s: float, end_s: float, count: int) -> None:
        if count and stage in STAGES:
            self._emit(Span(self._response, stage, begin_s, end_s, count))  # type: ignore[arg-type]


STAGES = get_args(Stage)
