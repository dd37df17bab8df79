"""A live talk in a simulated room that is stepped by hand: as fast as the machine can, and the same every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vita_edge.runtime import Assistant, Sound
from vita_edge.runtime.language_model import LanguageModel
from vita_edge.runtime.live.audio import BLOCK_S
from vita_edge.runtime.live.happenings import Happening
from vita_edge.runtime.live.options import LiveOptions
from vita_edge.runtime.live.room import Room
from vita_edge.runtime.live.talk import LiveTalk
from vita_edge.runtime.sampling import Logits

__all__ = ["Lockstep", "ToldModel", "told_what_to_say"]

T = TypeVar("T")
PATIENCE_S = 30.0


class ToldModel(LanguageModel):
    """Says what ``reply`` gives it, from its beginning whenever a question was closed; then it ends its turn."""

    reply: Callable[[], Sequence[int]]
    role_line_end: int
    """The last id before a reply."""
    _left: list[int]

    def prefill(self, rows: NDArray[np.float32], chunk: int = 512) -> Logits:
        logits = super().prefill(rows, chunk)
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

    def told(capacity: int) -> LanguageModel:
        model = make(capacity)
        model.__class__ = ToldModel
        assert isinstance(model, ToldModel)
        model.role_line_end = assistant.tokenizer.encode("\n")[-1]
        model.reply = lambda: [*assistant.tokenizer.encode(reply()), assistant.bundle.model.tokens.im_end]
        model._left = []
        return model

    return told


class Lockstep:
    """A talk and its room; every 10 ms the room waits until all that follows from them has been done.

    Attributes:
        happenings: everything that was told.
    """

    def __init__(self, assistant: Assistant, options: LiveOptions | None = None, room: Room | None = None, **more: Any):
        self.room = room or Room(noise_dbfs=None, start_s=0.0)
        self.happenings: list[Happening] = []
        self.talk = LiveTalk(
            assistant,
            self.room.microphone,
            self.room.speaker,
            options=options,
            observers=[self.happenings.append],
            **more,
        )

    def __enter__(self) -> Lockstep:
        self.talk.__enter__()
        self._rest()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.talk.__exit__(kind, error, trace)

    def say(self, sound: Sound, after_s: float = 0.1) -> None:
        """Let the microphone hear ``sound`` in a moment, and live until it is over."""
        end_s = self.room.say(sound, self.room.now_s + after_s).end_s
        self.live(end_s - self.room.now_s)

    def live(self, seconds: float) -> None:
        """Let time go on."""
        for _ in range(round(seconds / BLOCK_S)):
            self.room.tick()
            self._rest()

    def until(self, kind: type[T], most_s: float = 20.0) -> T:
        """Let time go on until something of this kind happens; returns it."""
        seen = len(self.happenings)
        end_s = self.room.now_s + most_s
        while True:
            for happening in self.happenings[seen:]:
                if isinstance(happening, kind):
                    return happening
            seen = len(self.happenings)
            assert self.room.now_s < end_s, f"no {kind.__name__} within {most_s} s: {self.happenings[-9:]}"
            self.live(BLOCK_S)

    def told(self, kind: type[T]) -> list[T]:
        """All of this kind that have happened."""
        return [happening for happening in self.happenings if isinstance(happening, kind)]

    def _rest(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        quiet = 0
        while quiet < 3:
            assert time.monotonic() < deadline, "the talk does not come to rest"
            self.talk.wait(0)  # raises what went wrong in a thread
            quiet = quiet + 1 if self.room.microphone.waiting == 0 and self.talk.resting else 0
            time.sleep(0.0002)
