"""Live talks for tests: over a model that is told what to say, and with everything that happened at hand."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vita_edge.runtime import Assistant
from vita_edge.runtime.audio_io.echo_canceller import Headphones
from vita_edge.runtime.decoding.language_model import LanguageModel
from vita_edge.runtime.decoding.sampling import Logits
from vita_edge.runtime.events.session_events import SessionEvent
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.live.live_session import LiveSession
from vita_edge.runtime.simulation.lockstep import Lockstep
from vita_edge.runtime.simulation.room import Room

__all__ = ["ToldModel", "WatchedTalk", "told_what_to_say"]

T = TypeVar("T")


class ToldModel(LanguageModel):
    """Says what ``reply`` gives it, from its beginning whenever a question was closed; then it ends its turn."""

    reply: Callable[[], Sequence[int]]
    role_line_end: int
    """The last id before a reply."""
    _left: list[int]

    def prefill_steps(self, rows: NDArray[np.float32], chunk: int | None = None) -> Generator[None, None, Logits]:
        logits = yield from super().prefill_steps(rows, chunk)
        if np.array_equal(rows[-1], self.embeddings.rows([self.role_line_end])[0]):
            self._left = list(self.reply())
        return self._said(logits)

    def step(self, token: int) -> Logits:
        return self._said(super().step(token))

    def _said(self, logits: Logits) -> Logits:
        said = np.zeros_like(logits)
        said[self._left.pop(0)] = 1e4
        return said


def told_what_to_say(assistant: Assistant, reply: Callable[[], str]) -> Callable[[int], LanguageModel]:
    """In place of ``assistant.language_model``: models whose replies are the texts that ``reply`` gives."""
    make = assistant.language_model

    def reported(capacity: int) -> LanguageModel:
        model = make(capacity)
        model.__class__ = ToldModel
        assert isinstance(model, ToldModel)
        model.role_line_end = assistant.tokenizer.encode("\n")[-1]
        model.reply = lambda: [*assistant.tokenizer.encode(reply()), assistant.bundle.model.tokens.im_end]
        model._left = []
        return model

    return reported


class WatchedTalk(Lockstep):
    """A talk and its room.

    Attributes:
        happenings: everything that was told.
    """

    def __init__(self, assistant: Assistant, options: LiveOptions | None = None, room: Room | None = None, **more: Any):
        room = room or Room(noise_dbfs=None, start_s=0.0)
        self.events: list[SessionEvent] = []
        observers = [self.events.append]
        more.setdefault("canceller", Headphones())
        super().__init__(
            room, LiveSession(assistant, room.microphone, room.speaker, options=options, observers=observers, **more)
        )

    def next(self, kind: type[T], max_s: float = 20.0) -> T:
        """Let time go on until something of this kind happens; returns it."""
        seen = len(self.events)
        found: list[T] = []

        def happened() -> bool:
            found.extend(each for each in self.events[seen:] if isinstance(each, kind))
            return bool(found)

        assert self.until(happened, max_s), f"no {kind.__name__} within {max_s} s: {self.events[-9:]}"
        return found[0]

    def reported(self, kind: type[T]) -> list[T]:
        """All of this kind that have happened."""
        return [event for event in self.events if isinstance(event, kind)]
