"""What turn-taking is told (cues), what it asks for (actions), and the times that it goes by. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .endpoint_policy import EndpointPolicy

__all__ = [
    "Action",
    "AddresseeDecided",
    "CancelPrefill",
    "CancelResponse",
    "CommitTurn",
    "CompletenessEstimated",
    "DropInterrupted",
    "Duck",
    "EndTurn",
    "Interrupt",
    "PlaybackDone",
    "PlaybackStarted",
    "Press",
    "Release",
    "ResponseFailed",
    "Resume",
    "SilenceFrame",
    "SpeechFrame",
    "StartPrefill",
    "StartResponse",
    "Stop",
    "TurnEvent",
    "TurnTimes",
    "Unduck",
    "WithdrawResponse",
]


@dataclass(frozen=True)
class TurnTimes:
    """When a silence or a voice means something, in milliseconds, and how much may be tried in vain."""

    speculation_delay_ms: int = 150
    """Silence after which an answer is begun, in the hope that the user has finished."""
    endpoint_ms: int = 500
    """Silence after which the user has finished; 500 in the reference's demo."""
    min_speech_ms: int = 90
    """Less voice than this is a click, not speech."""
    max_utterance_ms: int = 60_000
    """Speech that lasts longer is answered without waiting for a silence."""
    barge_in_ms: int = 200
    """Voice over a reply that interrupts it; before, the reply is only ducked."""
    unduck_delay_ms: int = 250
    """Silence after which a ducked reply gets loud again."""
    speculate: bool = True
    """Begin answers after ``speculation_delay_ms``; else only after ``endpoint_ms``."""
    attempts: int = 4
    """Answers begun in vain for one question, after which the endpoint is waited for."""
    full_duplex: bool = True
    """Voice is heard while the reply is (False: half-duplex, for rooms where the echo cannot be cancelled)."""
    withdraw_ms: int = 0
    """A user who goes on within this time of the first sound had not finished: the reply is withdrawn. 0: never."""
    policy: EndpointPolicy | None = None
    """The silence that ends a turn once a detector has said how likely it is complete; None: always ``endpoint_ms``."""

    def silence_ms(self, complete: float | None) -> float:
        """The silence that ends a turn; ``complete`` is None until a detector has said something of it."""
        if complete is None or self.policy is None:
            return self.endpoint_ms
        return self.policy.silence_ms(complete)


# --- cues: what is told to the machine


@dataclass(frozen=True)
class SpeechFrame:
    """A block of microphone sound with somebody's voice in it."""

    begin_s: float
    end_s: float


@dataclass(frozen=True)
class SilenceFrame:
    """A block without."""

    begin_s: float
    end_s: float


@dataclass(frozen=True)
class CompletenessEstimated:
    """A turn detector has said how likely the turn is complete, in the silence since ``voice_end_s``."""

    voice_end_s: float
    probability: float


@dataclass(frozen=True)
class Press:
    """The button that is held to talk went down."""

    at_s: float


@dataclass(frozen=True)
class Release:
    """It was let go."""

    at_s: float


@dataclass(frozen=True)
class Stop:
    """Whoever runs the session stops the response."""

    at_s: float


@dataclass(frozen=True)
class AddresseeDecided:
    """The model has said whether it was addressed."""

    turn: int
    addressed: bool


@dataclass(frozen=True)
class PlaybackStarted:
    """The reply begins to be heard."""

    turn: int


@dataclass(frozen=True)
class PlaybackDone:
    """The reply was heard to its end, or there was nothing to hear."""

    turn: int


@dataclass(frozen=True)
class ResponseFailed:
    """The answer could not be made."""

    turn: int


TurnEvent: TypeAlias = (
    CompletenessEstimated
    | SpeechFrame
    | SilenceFrame
    | Press
    | Release
    | Stop
    | AddresseeDecided
    | PlaybackStarted
    | PlaybackDone
    | ResponseFailed
)


# --- actions: what the machine asks for


@dataclass(frozen=True)
class StartPrefill:
    """The user has begun to speak: what can be done ahead, such as looking, should be done now."""


@dataclass(frozen=True)
class StartResponse:
    """Make an answer to what was said from ``speech_begin_s`` to ``speech_end_s``, and hold it."""

    turn: int
    speech_begin_s: float
    speech_end_s: float
    speculative: bool


@dataclass(frozen=True)
class CommitTurn:
    """The user has finished: the answer may be heard."""

    turn: int


@dataclass(frozen=True)
class CancelResponse:
    """Give an answer up, as if it had never been begun."""

    turn: int
    why: Literal["resumed", "noise", "stopped"]


@dataclass(frozen=True)
class WithdrawResponse:
    """The reply had only begun to be heard when the user went on: it fades, and leaves no trace."""

    turn: int


@dataclass(frozen=True)
class CancelPrefill:
    """It was a click: what was done ahead is undone."""


@dataclass(frozen=True)
class EndTurn:
    """The reply was heard: the turn is over."""

    turn: int


@dataclass(frozen=True)
class Duck:
    """Play more quietly."""


@dataclass(frozen=True)
class Unduck:
    """Play as loudly as before."""


@dataclass(frozen=True)
class Interrupt:
    """Silence the reply and stop making it; what was heard of it stays."""

    turn: int


@dataclass(frozen=True)
class Resume:
    """The interruption was noise: go on with the reply where it was silenced."""

    turn: int


@dataclass(frozen=True)
class DropInterrupted:
    """The interruption was meant: the rest of the reply is given up."""

    turn: int


Action: TypeAlias = (
    StartPrefill
    | CancelPrefill
    | StartResponse
    | CommitTurn
    | CancelResponse
    | EndTurn
    | Duck
    | Unduck
    | Interrupt
    | Resume
    | DropInterrupted
    | WithdrawResponse
)
