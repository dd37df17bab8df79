"""A response as its caller holds it: an iterator of events that can be cancelled from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from vita_edge.engines.errors import Misuse

from ..events.reply_events import Event, FinishReason, Reply, TurnDone
from .generate import Generation, Step
from .reply_writer import ReadyClause
from .response_table import CancelCue, ResponseState
from .scheduler import Scheduler

__all__ = ["Response", "StepGuard"]


class StepGuard:
    """One thread at a time is inside of a session; the others wait, for one step at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._then: Callable[[], None] | None = None

    def on_leaving(self, then: Callable[[], None]) -> None:
        """Call ``then`` when this thread, which is inside, is about to leave."""
        self._then = then

    @property
    def inside(self) -> bool:
        """This thread is inside already."""
        return self._owner == threading.get_ident()

    @contextmanager
    def entered(self) -> Generator[None, None, None]:
        """Be inside, as soon as nobody else is."""
        self._lock.acquire()
        self._owner = threading.get_ident()
        try:
            yield
        finally:
            then, self._then = self._then, None
            try:
                if then is not None:
                    then()
            finally:
                self._owner = None
                self._lock.release()


class Response:
    """One response of a session: iterate over it for its events, or call :meth:`result`.

    Nothing runs in the background: each event is computed when it is asked for. The last one is :class:`TurnDone`. A
    response that nobody holds any more ends at once, so leaving a loop over ``session.answer(…)`` ends it; a response
    that you hold may be left and iterated on later.
    """

    def __init__(
        self,
        number: int,
        generation: Generation,
        steps: Generator[Step, None, None],
        guard: StepGuard,
        scheduler: Scheduler,
    ) -> None:
        self.id = number
        """Counts the responses of the session, from 1."""
        self.generation, self._steps, self._guard, self._scheduler = generation, steps, guard, scheduler
        self._machine = generation.machine  # its own: a response that goes on with the same reply has another
        self._cancelled = threading.Event()
        self._last: TurnDone | None = None
        self._asking = threading.Lock()
        self.reader: int | None = None
        """The thread that iterates."""

    @property
    def state(self) -> ResponseState:
        """Where it stands; see the table in :mod:`~.response_table`."""
        return self._machine.state

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it lives."""
        return self._machine.finish_reason

    @property
    def ended(self) -> bool:
        return self._machine.ended

    def __iter__(self) -> Response:
        return self

    def __next__(self) -> Event:
        """
        Raises:
            Misuse: the turn is empty, or another thread iterates over it at this moment.
            BadInput: a sound or picture cannot be used.
            ContextOverflow: the turn does not fit; the session is as it was.
        """
        while True:
            step = self.step()
            if step is not None and not isinstance(step, ReadyClause):
                return step

    def step(self) -> Step:
        """Do one step, of at most one call of each graph: an event, or None where there is nothing yet.

        Raises:
            StopIteration: it has ended.
        """
        if not self._asking.acquire(blocking=False):
            raise Misuse(
                f"Two threads iterate over response {self.id} at once.",
                why="Its events come one after the other.",
                fix="Let one thread iterate, and hand the events on; or open a session for each thread.",
            )
        try:
            self.reader = threading.get_ident()
            with self._guard.entered():
                return self._step()
        finally:
            self._asking.release()

    def _step(self) -> Step:
        if self._cancelled.is_set():
            self.end()
        if self._last is not None:
            last, self._last = self._last, None
            return last
        with self._scheduler.step(self.generation.lane):
            return next(self._steps)

    @property
    def cancelled(self) -> bool:
        """Somebody has cancelled it, whether that took effect already or not."""
        return self._cancelled.is_set()

    def cancel(self, *, wait: bool = True) -> None:
        """End it, from any thread and at any moment: it takes effect within one call of a graph.

        The history keeps what was decoded so far; nothing of the turn if that is nothing. Whoever iterates gets
        :class:`TurnDone` as the last event.

        Args:
            wait: until it has taken effect.
        """
        self._cancelled.set()
        if wait and not self._guard.inside:
            with self._guard.entered():
                self.end()

    def result(self) -> Reply:
        """Make all of it, and return when it is there.

        Raises:
            Misuse, BadInput, ContextOverflow: as iterating does.
        """
        reply = None
        for event in self:
            if isinstance(event, TurnDone):
                reply = event.reply
        return reply or self.generation.reply()

    def end(self) -> None:
        """Close the steps, which leave the history in order; inside of the session only."""
        if self.ended:
            return
        self._steps.close()
        self._machine.step(CancelCue())  # steps that were never begun do not say so
        self.generation.clock.mark("total")
        self._last = TurnDone(self.generation.reply())
