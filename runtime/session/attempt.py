"""An attempt to answer: what the listening, the thinking and the speaking thread share of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ..audio_io.pcm import LeadingSilenceTrim
from ..decoding.sampling import Sampler, TokenSampler
from ..events.session_events import Happening, Observer, Span, Stage
from .reply_writer import ReplyWriter

__all__ = ["Announcer", "Attempt", "Work"]


class Announcer:
    """Hands happenings to the observers, one at a time, from whatever thread they come.

    An observer that fails is not asked again, and does not spoil the talk: its error is kept in ``errors``.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self._lock = threading.Lock()
        self.errors: list[Exception] = []

    def __call__(self, happening: Happening) -> None:
        with self._lock:
            for observer in list(self._observers):
                try:
                    observer(happening)
                except Exception as error:
                    self.errors.append(error)
                    self._observers.remove(observer)

    @contextmanager
    def span(self, turn: int | None, stage: Stage) -> Iterator[Work]:
        """Tell how long the work inside took; it says how much it was."""
        work = Work()
        begin_s = monotonic()
        yield work
        if work.count:
            self(Span(turn, stage, begin_s, monotonic(), work.count))


@dataclass
class Work:
    """How much was done; see :class:`Span`."""

    count: int = 0


class Attempt:
    """One attempt to answer. The flags are set by the listening thread and looked at by the other two at every step."""

    def __init__(
        self,
        turn: int,
        clip: NDArray[np.float32],
        writer: ReplyWriter,
        sample: TokenSampler,
        sample_code: Sampler,
    ) -> None:
        """
        Args:
            clip: what the user said, float32 [n] at 16 kHz.
            sample, sample_code: of this attempt alone, since they may hold a random state.
        """
        self.turn, self.clip, self.writer = turn, clip, writer
        self.sample, self.sample_code = sample, sample_code
        self.trim = LeadingSilenceTrim()
        self.confirmed = False
        """The user has finished."""
        self.suspended = False
        """Silenced; it may go on."""
        self.cancelled = False
        """Given up for good."""
        self.written = False
        """The text is complete."""
        self.sounded = False
        """The first sound of it is there."""
        self.buffer_told = False
        """It was told why that is held back."""
        self.interrupted_s = self.silent_s = 0.0
        """When it was decided to silence it, and when it was silent; 0 before."""
        self.tokens_heard = -1
        """Tokens of it that were heard when it was silenced; -1 before."""

    @property
    def stopped(self) -> bool:
        return self.suspended or self.cancelled
