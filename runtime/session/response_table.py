"""The life of a response as a table: in which state what may happen, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..events.reply_events import FinishReason

__all__ = [
    "ENDED",
    "TABLE",
    "AudioDone",
    "Begin",
    "CancelCue",
    "DropCue",
    "FailCue",
    "FirstToken",
    "Ignored",
    "InterruptCue",
    "ResponseCue",
    "ResponseMachine",
    "ResponseRow",
    "ResponseState",
    "ResumeCue",
    "TextDone",
]

ResponseState: TypeAlias = Literal[
    "queued", "reading", "generating", "speaking", "interrupted", "completed", "cancelled", "cut_off", "failed"
]
"""queued: nothing was done yet. reading: the turn is encoded and read. generating: its text is being decoded.
speaking: the text is complete, its audio is not. interrupted: silenced; it may still go on. The others are its ends;
cut_off: it was interrupted for good."""
ENDED: tuple[ResponseState, ...] = ("completed", "cancelled", "cut_off", "failed")


@dataclass(frozen=True)
class Begin:
    """The turn is being read."""


@dataclass(frozen=True)
class FirstToken:
    """The first token was decoded."""


@dataclass(frozen=True)
class TextDone:
    """No token will follow."""

    reason: FinishReason
    """stop, length or noise."""


@dataclass(frozen=True)
class AudioDone:
    """All of its audio was made, or was played where somebody plays it."""


@dataclass(frozen=True)
class InterruptCue:
    """Somebody speaks over it: it is silenced."""


@dataclass(frozen=True)
class ResumeCue:
    """The interruption was noise: it goes on."""


@dataclass(frozen=True)
class DropCue:
    """The interruption was meant."""


@dataclass(frozen=True)
class CancelCue:
    """It is not needed any more."""


@dataclass(frozen=True)
class FailCue:
    """It cannot be made."""


@dataclass(frozen=True)
class Ignored:
    """What it answers turned out to be noise."""


ResponseCue: TypeAlias = (
    Begin | FirstToken | TextDone | AudioDone | InterruptCue | ResumeCue | DropCue | CancelCue | FailCue | Ignored
)


@dataclass(frozen=True)
class ResponseRow:
    """In one of ``states``, ``cue`` leads to ``then``, where None is the state that was interrupted."""

    states: tuple[ResponseState, ...]
    cue: type[ResponseCue]
    then: ResponseState | None
    reason: FinishReason | None = None
    """Why it ended, where the cue does not say."""


ALIVE: tuple[ResponseState, ...] = ("queued", "reading", "generating", "speaking", "interrupted")
TABLE: tuple[ResponseRow, ...] = (
    ResponseRow(("queued",), Begin, "reading"),
    ResponseRow(("reading",), FirstToken, "generating"),
    ResponseRow(("reading", "generating"), TextDone, "speaking"),
    ResponseRow(("speaking",), AudioDone, "completed"),
    ResponseRow(("generating", "speaking"), InterruptCue, "interrupted"),
    ResponseRow(("interrupted",), ResumeCue, None),
    ResponseRow(("interrupted",), DropCue, "cut_off", "interrupted"),
    ResponseRow(ALIVE, Ignored, "completed", "noise"),
    ResponseRow(ALIVE, CancelCue, "cancelled", "cancelled"),
    ResponseRow(ALIVE, FailCue, "failed", "failed"),
)
"""The first row that fits is taken; a cue that fits none changes nothing."""


class ResponseMachine:
    """Where a response stands. One owner steps it; everybody else is given values."""

    def __init__(self) -> None:
        self.state: ResponseState = "queued"
        self._before: ResponseState = "queued"
        self._reason: FinishReason | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it lives."""
        return self._reason if self.ended else None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def step(self, cue: ResponseCue) -> bool:
        """Take a cue; False when it changes nothing."""
        row = next((row for row in TABLE if self.state in row.states and isinstance(cue, row.cue)), None)
        if row is None:
            return False
        if isinstance(cue, TextDone):
            self._reason = cue.reason
        if row.reason:
            self._reason = row.reason
        before, self.state = self.state, row.then or self._before
        if self.state == "interrupted":
            self._before = before
        return True
