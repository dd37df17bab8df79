"""What the threads of a live session tell each other: plain values, in queues. Nobody touches what another one owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import VitaEdgeError

from ..events.reply_events import FinishReason
from ..session.reply_writer import ReadyClause

__all__ = [
    "Cancel",
    "ClearHistory",
    "Commit",
    "Continue",
    "ContinueReply",
    "Drop",
    "EndOfText",
    "Fail",
    "ForgetInput",
    "ForgetInterrupted",
    "GenerationCommand",
    "GenerationReport",
    "KeepHeard",
    "Leave",
    "ReadAhead",
    "ReplySettled",
    "Reset",
    "Respond",
    "SetInstructions",
    "SettleTurn",
    "Speak",
    "SpeechCommand",
    "SpeechProgress",
    "Suspend",
    "TextComplete",
    "UserSilent",
]


@dataclass(frozen=True)
class Leave:
    """The thread ends within a step."""


# --- to the generation thread


@dataclass(frozen=True)
class ReadAhead:
    """The user has begun to speak, at that moment of the input: look, and read ahead."""

    speech_begin_s: float


@dataclass(frozen=True)
class ForgetInput:
    """It was nothing."""


@dataclass(frozen=True)
class UserSilent:
    """Whether a response may be asked for at any moment, so that nothing is begun that it would wait for."""

    silent: bool


@dataclass(frozen=True, eq=False)
class Respond:
    """Answer what was said."""

    response: int
    audio: NDArray[np.float32]
    """float32 [n] at 16 kHz"""


@dataclass(frozen=True)
class Commit:
    """The user has finished: the response will be heard."""

    response: int


@dataclass(frozen=True)
class Cancel:
    """Give a response up, as if it had never been begun."""

    response: int
    why: Literal["resumed", "withdrawn", "noise", "stopped"]


@dataclass(frozen=True)
class KeepHeard:
    """The reply was silenced: the history keeps what was heard of it."""

    response: int
    tokens_heard: int


@dataclass(frozen=True)
class ContinueReply:
    """The interruption was noise: go on with the reply."""

    response: int


@dataclass(frozen=True)
class ForgetInterrupted:
    """The interruption was meant."""

    response: int


@dataclass(frozen=True)
class SettleTurn:
    """The reply was heard to its end."""

    response: int


@dataclass(frozen=True)
class SpeechProgress:
    """Audio was made, or a clause is spoken."""

    response: int
    spoken: int
    """Clauses that are spoken."""


@dataclass(frozen=True, eq=False)
class Fail:
    """The response cannot be spoken."""

    response: int
    error: VitaEdgeError


@dataclass(frozen=True)
class SetInstructions:
    """The system prompt from the next response on."""

    instructions: str | None


@dataclass(frozen=True)
class ClearHistory:
    """Forget everything."""


GenerationCommand: TypeAlias = (
    ReadAhead
    | ForgetInput
    | UserSilent
    | Respond
    | Commit
    | Cancel
    | KeepHeard
    | ContinueReply
    | ForgetInterrupted
    | SettleTurn
    | SpeechProgress
    | Fail
    | SetInstructions
    | ClearHistory
    | Leave
)


# --- from the generation thread


@dataclass(frozen=True)
class TextComplete:
    """No token will follow."""

    response: int
    reason: FinishReason


@dataclass(frozen=True)
class Reset:
    """Stop, and forget everything; from whoever runs the session."""

    at_s: float


@dataclass(frozen=True)
class ReplySettled:
    """The history keeps so much of an interrupted reply."""

    response: int
    tokens_heard: int
    tokens_written: int


GenerationReport: TypeAlias = TextComplete | ReplySettled


# --- to the speech thread


@dataclass(frozen=True, eq=False)
class Speak:
    """Speak a clause after those before it."""

    response: int
    index: int
    """Turns that were remembered before: with the seed it makes what is drawn."""
    ready: ReadyClause
    token_s: float
    """What a token takes at the moment."""


@dataclass(frozen=True)
class EndOfText:
    """No clause will follow; the reply has so many tokens."""

    response: int
    tokens: int
    token_s: float


@dataclass(frozen=True)
class Suspend:
    """The reply is silenced; what waits to be spoken waits on."""

    response: int


@dataclass(frozen=True)
class Continue:
    """It goes on."""

    response: int


@dataclass(frozen=True)
class Drop:
    """The response was given up."""

    response: int


SpeechCommand: TypeAlias = Speak | EndOfText | Suspend | Continue | Drop | Leave
