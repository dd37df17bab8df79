"""A live talk in a simulated room that is stepped by hand: as fast as the machine can, and the same every time.

For tests and for talks of many hours. Nothing is timed here: the room's clock stands still while the talk computes, so
that every machine is infinitely fast. `vita-edge bench` runs in real time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from vita_edge.engines.errors import InferenceFailed

from ..audio_io.device_protocols import BLOCK_S
from ..audio_io.sound import Sound
from ..live.live_session import LiveSession
from .room import Room

__all__ = ["Lockstep"]

PATIENCE_S = 60.0
LOOK_S = 0.0002
QUIET_LOOKS = 3
"""Looks in a row that must find the talk at rest: an order may be on its way from one thread to another."""


class Lockstep:
    """Steps the room; every 10 ms it waits until the talk has done all that follows from them.

    Args:
        room: not entered: its own thread would step it in real time.
        talk: over the microphone and the speaker of the room.
    """

    def __init__(self, room: Room, talk: LiveSession) -> None:
        self.room, self.talk = room, talk

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
        self.live(self.room.say(sound, self.room.now_s + after_s).end_s - self.room.now_s)

    def live(self, seconds: float) -> None:
        """Let time go on.

        Raises:
            InferenceFailed: the talk does not come to rest.
        """
        for _ in range(round(seconds / BLOCK_S)):
            self.room.tick()
            self._rest()

    def until(self, happened: Callable[[], bool], max_s: float) -> bool:
        """Let time go on until ``happened``, for ``most_s`` at most; whether it did."""
        end_s = self.room.now_s + max_s
        while not happened():
            if self.room.now_s >= end_s:
                return False
            self.live(BLOCK_S)
        return True

    def _rest(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        quiet = 0
        while quiet < QUIET_LOOKS:
            if time.monotonic() > deadline_s:
                raise InferenceFailed(
                    "The talk does not come to rest.",
                    why=f"Something has been computing for more than {PATIENCE_S:.0f} s.",
                    fix="Use a smaller bundle, or run in real time.",
                )
            self.talk.wait(0)  # raises what went wrong in a thread
            quiet = quiet + 1 if self.room.microphone.waiting == 0 and self.talk.resting else 0
            time.sleep(LOOK_S)
