"""Whose turn it is to speak: a pure state machine over cues that bear their own times. It knows no thread and no clock.

What it does is one table, :data:`~.turn_table.TABLE`: the first row whose state, cue and condition fit is taken; a cue
that fits no row changes nothing.
"""

from __future__ import annotations

from ..events.session_events import TalkState
from .turn_events import (
    Action,
    AddresseeDecided,
    PlaybackDone,
    PlaybackStarted,
    ResponseFailed,
    SilenceFrame,
    SpeechFrame,
    TurnEvent,
    TurnTimes,
)
from .turn_table import TABLE, Situation

__all__ = ["TurnTaking"]


class TurnTaking:
    """The machine. ``state`` is where it stands; :meth:`step` takes a cue and returns what is to be done."""

    def __init__(self, times: TurnTimes | None = None) -> None:
        self.state: TalkState = "listening"
        self._situation = Situation(times or TurnTimes())

    @property
    def speech_begin_s(self) -> float:
        """When the user began to speak last."""
        return self._situation.speech_begin_s

    @property
    def voice_end_s(self) -> float:
        """Where the last voice ended, so far."""
        return self._situation.voice_end_s

    def step(self, cue: TurnEvent) -> list[Action]:
        """Take a cue; cues come in the order of their times."""
        situation = self._situation
        if isinstance(cue, ResponseFailed) and cue.turn == situation.suspended:
            situation.suspended = None  # nothing is left that could go on
            return []
        if (
            isinstance(cue, (AddresseeDecided, PlaybackStarted, PlaybackDone, ResponseFailed))
            and cue.turn != situation.turn
        ):
            return []  # what an attempt tells that was given up long ago
        if isinstance(cue, (SpeechFrame, SilenceFrame)):
            situation.now_s = cue.end_s
        for row in TABLE:
            if self.state in row.states and isinstance(cue, row.cue) and row.when(situation, cue):
                for deed in row.does:
                    deed(situation, cue)
                self.state = row.then
                break
        actions, situation.actions = situation.actions, []
        return actions
