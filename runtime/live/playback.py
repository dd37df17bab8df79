"""What the speaker plays: replies as they are made, held until they may be heard, ducked, silenced and resumed.

It remembers of every reply how much of which clause was heard. Writers add sound from their threads; the audio callback
pulls it, and is never kept waiting for longer than it takes to copy a block.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..events.session_events import ClauseHeard, FirstSound, RanDry

__all__ = ["Playback", "ReplyHeard", "Silenced", "Told"]

Samples = NDArray[np.float32]

DUCKED = np.float32(10 ** (-14 / 20))
"""Gain of a ducked reply: −14 dB, quiet enough to speak against, loud enough to follow."""
FADE_S = 0.005
"""A reply is silenced within this time, short enough to be at once and long enough not to click."""


@dataclass(frozen=True)
class ReplyHeard:
    """The last sample of a reply was pulled, or there was none."""

    turn: int
    at_s: float


@dataclass(frozen=True)
class Silenced:
    """From here on nothing of a reply is heard that was silenced."""

    turn: int
    at_s: float


@dataclass(frozen=True)
class Withdrawn:
    """From here on nothing of a reply is heard that was withdrawn; it is dropped."""

    turn: int
    at_s: float
    audible_s: float
    """How long it was heard."""


Told: TypeAlias = FirstSound | ClauseHeard | RanDry | ReplyHeard | Silenced | Withdrawn


@dataclass
class _Clause:
    text: str
    begin_token: int
    end_token: int
    """Tokens of the reply before and at the end of the clause."""
    made: int = 0
    """Samples that are there."""
    heard: int = 0


@dataclass
class _Reply:
    pieces: list[tuple[Samples, int]] = field(default_factory=list)
    """Sound that was not pulled yet, with the index of its clause."""
    clauses: list[_Clause] = field(default_factory=list)
    left: int = 0
    """Samples in ``pieces``."""
    needed: float = math.inf
    """Samples that must be there before it starts."""
    released: bool = False
    finished: bool = False
    started: bool = False
    silenced: bool = False
    faded: bool = False
    """Silenced, and no longer heard."""
    withdrawn: bool = False
    """To be dropped as soon as it has faded."""
    first_s: float | None = None
    """When it was first heard."""
    reported_end: bool = False
    dry_since_s: float | None = None

    @property
    def playable(self) -> bool:
        if not self.released or self.silenced:
            return False
        return self.started or self.finished or (self.left > 0 and self.left >= self.needed)


class Playback:
    """The source of a speaker.

    Args:
        sample_rate_hz: of what is added and pulled.
        tell: called from the audio callback with what is heard; must return at once.
    """

    def __init__(self, sample_rate_hz: int, report: Callable[[Told], None]) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._report = report
        self._lock = threading.Lock()
        self._replies: dict[int, _Reply] = {}
        self._gain = self._target_gain = np.float32(1)

    # --- the side that writes

    def begin(self, turn: int) -> None:
        """A reply is being made; it is held."""
        with self._lock:
            self._replies[turn] = _Reply()

    def add_clause(self, turn: int, text: str, end_token: int) -> None:
        """What is added from here on says ``text``, which ends with the reply's ``end_token``-th token."""
        with self._lock:
            if reply := self._replies.get(turn):
                begin = reply.clauses[-1].end_token if reply.clauses else 0
                reply.clauses.append(_Clause(text, begin, end_token))

    def add(self, turn: int, samples: Samples) -> None:
        """Add float32 [n] to the last clause; sound of a reply that was forgotten is dropped."""
        with self._lock:
            reply = self._replies.get(turn)
            if reply and len(samples):
                reply.pieces.append((samples, len(reply.clauses) - 1))
                reply.clauses[-1].made += len(samples)
                reply.left += len(samples)

    def finish(self, turn: int) -> None:
        """Nothing will be added any more."""
        with self._lock:
            if reply := self._replies.get(turn):
                reply.finished = True

    def start_with(self, turn: int, seconds: float) -> None:
        """Let the reply start when that much is there, or all of it."""
        with self._lock:
            if reply := self._replies.get(turn):
                reply.needed = seconds * self.sample_rate_hz

    def release(self, turn: int) -> None:
        """The reply may be heard."""
        with self._lock:
            if reply := self._replies.get(turn):
                reply.released = True

    def duck(self, quiet: bool) -> None:
        """Play more quietly, or as before."""
        with self._lock:
            self._target_gain = DUCKED if quiet else np.float32(1)

    def silence(self, turn: int) -> None:
        """Not another block of the reply is heard until it is resumed."""
        with self._lock:
            if reply := self._replies.get(turn):
                reply.silenced, reply.faded = True, False

    def withdraw(self, turn: int) -> None:
        """Not another block of the reply is heard, ever."""
        with self._lock:
            if reply := self._replies.get(turn):
                reply.silenced, reply.faded, reply.withdrawn = True, False, True
                self._target_gain = np.float32(1)

    def resume(self, turn: int) -> None:
        """Go on where the reply was silenced, as loudly as before."""
        with self._lock:
            self._target_gain = np.float32(1)
            if reply := self._replies.get(turn):
                reply.silenced, reply.dry_since_s = False, None

    def forget(self, turn: int) -> None:
        """Drop the reply."""
        with self._lock:
            if self._replies.pop(turn, None):
                self._target_gain = np.float32(1)

    # --- how far it is

    def lead_s(self, turn: int) -> float:
        """Seconds of the reply that are there and were not pulled."""
        with self._lock:
            reply = self._replies.get(turn)
            return reply.left / self.sample_rate_hz if reply else 0.0

    def started(self, turn: int) -> bool:
        """Whether some of the reply was pulled."""
        with self._lock:
            reply = self._replies.get(turn)
            return bool(reply and reply.started)

    def tokens_heard(self, turn: int) -> int:
        """Tokens of the reply that were heard: of whole clauses all, of the one that is being heard its share.

        The share is that of the samples that were made; while a clause is still being made it is therefore too large
        rather than too small, by less than a clause.
        """
        with self._lock:
            reply = self._replies.get(turn)
            heard = 0
            for clause in reply.clauses if reply else ():
                if clause.heard < clause.made:
                    return heard + (clause.end_token - clause.begin_token) * clause.heard // clause.made
                if clause.heard:
                    heard = clause.end_token
            return heard

    # --- the side that pulls

    def pull(self, count: int, at_s: float) -> Samples:
        """The next float32 [count]; ``at_s`` is when the first of them reaches the converter."""
        block = np.zeros(count, np.float32)
        reported: list[Told] = []
        with self._lock:
            for turn, reply in self._replies.items():
                if reply.silenced and not reply.faded:
                    self._fade(block, reply)
                    reported.append(self._silenced(turn, reply, at_s + FADE_S))
                elif reply.playable:
                    self._play(turn, reply, block, at_s, reported)
            silent = not any(reply.playable for reply in self._replies.values())
            target = np.float32(0) if silent and self._any_silenced() else self._target_gain
            if self._gain != target or target != 1:
                block *= self._gains(count, target)
            self._gain = target
            gone = [turn for turn, reply in self._replies.items() if reply.withdrawn and reply.faded]
            for turn in gone:
                del self._replies[turn]
        for each in reported:
            self._report(each)
        return block

    @staticmethod
    def _silenced(turn: int, reply: _Reply, at_s: float) -> Silenced | Withdrawn:
        if not reply.withdrawn:
            return Silenced(turn, at_s)
        return Withdrawn(turn, at_s, 0.0 if reply.first_s is None else at_s - reply.first_s)

    def _any_silenced(self) -> bool:
        return any(reply.silenced for reply in self._replies.values())

    def _gains(self, count: int, target: np.float32) -> Samples:
        """From the gain of the last block to that of this one, over a few milliseconds."""
        ramp = min(count, max(int(FADE_S * self.sample_rate_hz), 1))
        gains = np.full(count, target, np.float32)
        gains[:ramp] = np.linspace(self._gain, target, ramp, dtype=np.float32)
        return gains

    def _fade(self, block: Samples, reply: _Reply) -> None:
        """A few milliseconds of what would have come, to be faded out; they are not used up."""
        reply.faded = True
        if reply.started and reply.pieces:
            samples = reply.pieces[0][0][: len(block)]
            block[: len(samples)] += samples

    def _play(self, turn: int, reply: _Reply, block: Samples, at_s: float, reported: list[Told]) -> None:
        if not reply.started and reply.left:
            reply.started, reply.first_s = True, at_s
            reported.append(FirstSound(turn, at_s))
        filled = 0
        while filled < len(block) and reply.pieces:
            piece, number = reply.pieces[0]
            moment = at_s + filled / self.sample_rate_hz
            if reply.dry_since_s is not None:
                reported.append(RanDry(turn, reply.dry_since_s, moment - reply.dry_since_s))
                reply.dry_since_s = None
            clause = reply.clauses[number]
            if not clause.heard:
                reported.append(ClauseHeard(turn, moment, clause.text))
            taken = piece[: len(block) - filled]
            block[filled : filled + len(taken)] += taken
            clause.heard += len(taken)
            reply.left -= len(taken)
            filled += len(taken)
            if len(taken) < len(piece):
                reply.pieces[0] = piece[len(taken) :], number
            else:
                reply.pieces.pop(0)
        if filled < len(block):
            moment = at_s + filled / self.sample_rate_hz
            if reply.finished and not reply.reported_end:
                reply.reported_end = True
                reported.append(ReplyHeard(turn, moment))
            elif not reply.finished and reply.started and reply.dry_since_s is None:
                reply.dry_since_s = moment
