"""What happens in a live talk, told to whoever observes it. Every time is in seconds of ``time.monotonic()``.

Screens, logs, traces and statistics are observers: they see these values and touch nothing. A *turn* is one attempt to
answer: an attempt that is forgotten because the user went on speaking keeps its number, the next one has a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .reply_events import FinishReason, State

__all__ = [
    "BufferChosen",
    "ClauseHeard",
    "Device",
    "DeviceChanged",
    "EndpointReached",
    "FirstPcm",
    "FirstSound",
    "FrameSeen",
    "HistoryShortened",
    "Interrupted",
    "Level",
    "Observer",
    "RanDry",
    "ResponseWithdrawn",
    "SessionEvent",
    "Span",
    "Stage",
    "StateTold",
    "TalkState",
    "TalkStateChanged",
    "Trouble",
    "TurnBegan",
    "TurnEnded",
    "TurnForgotten",
    "Written",
]

TalkState = Literal["listening", "hearing", "pausing", "thinking", "speaking", "ducking", "interrupted"]
"""listening: nobody speaks. hearing: the user speaks. pausing: the user is silent, perhaps only for a moment.
thinking: the user has finished, nothing is heard yet. speaking: the reply is heard. ducking: the reply is heard more
quietly, since the user may be about to interrupt. interrupted: the reply is silenced, and the user speaks."""

Stage = Literal["vision", "audio", "prefill", "decode", "speech_decoder", "codec", "memory"]
"""Stages of work; ``memory`` is history that is read again, in idle time, after old turns have left."""

Device = Literal["microphone", "speaker", "camera"]


@dataclass(frozen=True)
class Level:
    """What the microphone hears, a few times a second."""

    at_s: float
    dbfs: float
    """Loudness of the last blocks: root mean square, full scale 0."""
    voice: float
    """Probability of speech, 0 to 1."""


@dataclass(frozen=True)
class TalkStateChanged:
    at_s: float
    state: TalkState


@dataclass(frozen=True)
class FrameSeen:
    """A camera frame became part of the turn that is being asked."""

    at_s: float
    """When it was captured."""
    number: int
    """Of the camera, from 0."""


@dataclass(frozen=True)
class TurnBegan:
    """The user has been silent for a moment, and an answer is being made."""

    turn: int
    at_s: float
    speech_begin_s: float
    """First sample of the user's speech."""
    speech_end_s: float
    """Last sample of it; both clocks that a user feels begin here."""
    speculative: bool
    """The user may still go on; nothing is heard before :class:`EndpointReached`."""


@dataclass(frozen=True)
class EndpointReached:
    """The silence has lasted: the user has finished."""

    turn: int
    at_s: float


@dataclass(frozen=True)
class TurnForgotten:
    """An attempt to answer left no trace."""

    turn: int
    at_s: float
    why: Literal["resumed", "withdrawn", "noise", "failed", "stopped"]


@dataclass(frozen=True)
class ResponseWithdrawn:
    """A reply had only begun to be heard when the user went on with the question; it faded, and leaves no trace."""

    turn: int
    at_s: float
    audible_s: float
    """How long it was heard."""


@dataclass(frozen=True)
class StateTold:
    """The model's first token said whether it was addressed."""

    turn: int
    at_s: float
    state: State
    marked: bool


@dataclass(frozen=True)
class Span:
    """Work that was done; spans of one stage do not overlap, spans of different stages may."""

    turn: int | None
    """None for work that belongs to no attempt yet: the system prompt, frames seen while the user speaks."""
    stage: Stage
    begin_s: float
    end_s: float
    count: int
    """vision: frames; audio: milliseconds of sound; prefill, memory: positions; decode: tokens; speech_decoder: codes;
    codec: samples."""


@dataclass(frozen=True)
class Written:
    """Text of the reply, as it is decoded."""

    turn: int
    at_s: float
    text: str


@dataclass(frozen=True)
class FirstPcm:
    """The first sound of the reply is there and could be played."""

    turn: int
    at_s: float


@dataclass(frozen=True)
class BufferChosen:
    """Sound is held back at the start, so that it does not run dry later."""

    turn: int
    seconds: float
    """Sound that has to be there before it starts."""
    why: str


@dataclass(frozen=True)
class FirstSound:
    """The first sound of the reply was written to the speaker; ``at_s`` is when it reaches the converter."""

    turn: int
    at_s: float


@dataclass(frozen=True)
class ClauseHeard:
    """A clause begins to be heard: the caption."""

    turn: int
    at_s: float
    text: str


@dataclass(frozen=True)
class RanDry:
    """The speaker had nothing to play although the reply was not finished."""

    turn: int
    at_s: float
    seconds: float


@dataclass(frozen=True)
class Interrupted:
    """The user has taken the word; the history keeps what was heard."""

    turn: int
    """The turn whose reply was silenced."""
    at_s: float
    """When it was decided."""
    silent_s: float
    """When the speaker went silent."""
    tokens_heard: int
    tokens_written: int


@dataclass(frozen=True)
class TurnEnded:
    """The reply was heard to its end, or as far as it was heard."""

    turn: int
    at_s: float
    state: State
    text: str
    """All that was decoded, heard or not."""
    finish_reason: FinishReason
    """stop, length or interrupted."""

    @property
    def finished(self) -> bool:
        """False when it was cut off, by the limit of new tokens or by the user."""
        return self.finish_reason == "stop"


@dataclass(frozen=True)
class HistoryShortened:
    """The context was nearly full: the oldest turns have left, the system prompt stays."""

    at_s: float
    turns_left: int
    """Turns that are still remembered."""
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True)
class DeviceChanged:
    """A device lost sound, vanished, or came back."""

    at_s: float
    device: Device
    lost: bool
    dropouts: int
    """Blocks (microphone) or callbacks (speaker) that were lost since the talk began."""


@dataclass(frozen=True)
class Trouble:
    """An answer could not be made; the talk goes on."""

    at_s: float
    what: str
    why: str
    fix: str


SessionEvent: TypeAlias = (
    Level
    | TalkStateChanged
    | FrameSeen
    | TurnBegan
    | EndpointReached
    | TurnForgotten
    | ResponseWithdrawn
    | StateTold
    | Span
    | Written
    | FirstPcm
    | BufferChosen
    | FirstSound
    | ClauseHeard
    | RanDry
    | Interrupted
    | TurnEnded
    | HistoryShortened
    | DeviceChanged
    | Trouble
)
Observer: TypeAlias = Callable[[SessionEvent], None]
"""Called from the threads of the talk, one call at a time; must return at once."""
