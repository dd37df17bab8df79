"""What a screen knows of a talk: taken from what happens, and shown by :mod:`.screen` and :mod:`.plain_lines`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite

from vita_edge.engines.printable import printable
from vita_edge.runtime.events.session_events import (
    BufferChosen,
    ClauseHeard,
    DeviceChanged,
    HistoryShortened,
    Interrupted,
    Level,
    RanDry,
    SessionEvent,
    TalkState,
    TalkStateChanged,
    Trouble,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
)

__all__ = ["Said", "TalkSoFar"]

WORTH_TELLING_S = 0.2
"""A start-up buffer that changes by less is not told again."""


@dataclass(frozen=True)
class Said:
    """A line of the talk that does not change any more."""

    who: str
    """you, vita, or note for what happened beside."""
    text: str


@dataclass
class TalkSoFar:
    """Takes happenings; :meth:`take` hands out the lines that are complete by then."""

    state: TalkState = "listening"
    dbfs: float = -100.0
    voice: float = 0.0
    clauses: list[str] = field(default_factory=list)
    """Of the reply that is being heard."""
    trouble: dict[str, str] = field(default_factory=dict)
    """Device → what is wrong with it now."""
    _speech_s: dict[int, float] = field(default_factory=dict)
    _interrupted: set[int] = field(default_factory=set)
    _dry_s: float = 0.0
    _buffer_s: float = 0.0
    _dropouts: dict[str, int] = field(default_factory=dict)
    """Device → blocks that were lost when that was told."""

    def take(self, event: SessionEvent) -> Iterator[Said]:
        match event:
            case Level(_, dbfs, voice):
                self.dbfs, self.voice = dbfs, voice
            case TalkStateChanged(_, state):
                self.state = state
            case TurnBegan():
                self._speech_s[event.turn] = event.speech_end_s - event.speech_begin_s
            case TurnForgotten(turn):
                self._speech_s.pop(turn, None)
            case ClauseHeard(turn, _, text):
                yield from self._user(turn)
                self.clauses.append(printable(text.strip()))
            case Interrupted(turn):
                self._interrupted.add(turn)
            case TurnEnded(turn):
                yield from self._user(turn)
                yield from self._reply(event)
            case RanDry(_, _, seconds):
                self._dry_s += seconds
            case BufferChosen(_, seconds, why):
                if seconds != self._buffer_s and not abs(seconds - self._buffer_s) < WORTH_TELLING_S:
                    sound = f"{seconds:.1f} s of sound are there" if isfinite(seconds) else "their text is complete"
                    yield Said("note", f"replies wait until {sound}: {why}")
                    self._buffer_s = seconds
            case HistoryShortened(_, turns_left):
                yield Said(
                    "note", f"the oldest turns were forgotten, {turns_left} are left: the context was nearly full"
                )
            case Trouble(_, what, why, fix):
                yield Said("note", printable(f"an answer could not be made. {what} {why} {fix}".rstrip()))
            case DeviceChanged():
                yield from self._device(event)
            case _:
                pass

    def _user(self, turn: int) -> Iterator[Said]:
        """What the user said, told when the answer begins: by then it is settled. It is sound; nobody wrote it down."""
        if (seconds := self._speech_s.pop(turn, None)) is not None:
            yield Said("you", f"({seconds:.1f} s of speech)")

    def _reply(self, end: TurnEnded) -> Iterator[Said]:
        cut = end.turn in self._interrupted and not end.finished
        text = " ".join(self.clauses) if cut else printable(end.text.strip())
        self.clauses.clear()
        self._interrupted.discard(end.turn)
        if text:
            yield Said("vita", f"{text} …" if not end.finished else text)
        if self._dry_s:
            yield Said("note", f"the reply had gaps, {1000 * self._dry_s:.0f} ms in all: the machine was too slow")
        self._dry_s = 0.0

    def _device(self, change: DeviceChanged) -> Iterator[Said]:
        before = self.trouble.pop(change.device, None)
        if change.lost:
            self.trouble[change.device] = f"{change.device} lost, waiting for it"
            yield Said("note", f"the {change.device} is gone; waiting for it to come back")
        elif before:
            yield Said("note", f"the {change.device} is back")
        elif change.dropouts >= max(2 * self._dropouts.get(change.device, 0), 1):  # told ever more seldom
            self._dropouts[change.device] = change.dropouts
            what = "ran dry" if change.device == "speaker" else "lost sound"
            times = "once" if change.dropouts == 1 else f"{change.dropouts} times"
            yield Said("note", f"the {change.device} {what} {times} so far: the machine was too slow")
