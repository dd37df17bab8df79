"""Several sessions over one opened model: each gets one step at a time, in the order in which they ask.

A step is at most one call of a graph and the reading of what it gave. Two steps may run at once when they use different
lanes: encoders and language model are one, speech decoder and codec the other. While one session runs alone, nobody
waits for anything.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

__all__ = ["FairLock", "Lane", "Scheduler"]

Lane: TypeAlias = Literal["language", "speech"]


class FairLock:
    """A lock that is handed over in the order in which threads asked for it; a plain one may starve somebody."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._held = False

    def acquire(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            ticket = threading.Lock()
            ticket.acquire()
            self._waiting.append(ticket)
        try:
            ticket.acquire()
        except BaseException:  # Ctrl-C while waiting: nobody may be handed a lock that nobody waits for
            with self._guard:
                handed = ticket not in self._waiting
                if not handed:
                    self._waiting.remove(ticket)
            if handed:
                self.release()
            raise

    def release(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False


class Scheduler:
    """Who may run a graph of a lane. One for each opened model."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, FairLock] = {"language": FairLock(), "speech": FairLock()}

    @contextmanager
    def step(self, lane: Lane) -> Iterator[None]:
        """Wait for the lane, and have it for one step."""
        lock = self._lanes[lane]
        lock.acquire()
        try:
            yield
        finally:
            lock.release()
