"""What a response hands out, in the order in which it comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Event", "FinishReason", "Reply", "SpeechPiece", "State", "StateDecided", "TextPiece", "TurnDone"]

FinishReason: TypeAlias = Literal["stop", "length", "interrupted", "noise", "failed", "cancelled"]
"""stop: the model ended its reply. length: it reached the limit of new tokens, or of the context. interrupted: the user
took the word. noise: the model was not addressed. failed: an error. cancelled: the caller ended it."""
State = Literal["speech", "noise", "text"]
"""speech: a spoken question, answered. noise: not meant for the assistant, not spoken. text: a written question."""


@dataclass(frozen=True)
class StateDecided:
    """The first token said whether the model was addressed."""

    state: State
    marked: bool
    """False when the model gave no state token, and the kind of the question was taken for it."""


@dataclass(frozen=True)
class TextPiece:
    """Reply text as it is decoded; the pieces join to the reply."""

    text: str


@dataclass(frozen=True)
class SpeechPiece:
    """Sound to play after what came before."""

    pcm: NDArray[np.int16]
    """int16 [samples], mono"""
    sample_rate_hz: int
    clause: str
    """What is being said."""


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    state: State
    state_marked: bool
    text: str
    token_ids: tuple[int, ...]
    """Decoded ids, the stop token left out."""
    pcm: NDArray[np.int16]
    """int16 [samples], mono; empty when nothing was spoken"""
    sample_rate_hz: int
    finish_reason: FinishReason
    """Why it ended."""
    prompt_tokens: int
    """Positions prefilled for this turn."""
    latency_ms: Mapping[str, float]
    """Stage → milliseconds; ``first_text``, ``first_audio`` and ``total`` count from the call."""

    @property
    def finished(self) -> bool:
        """The model ended the reply itself; False when it was cut off."""
        return self.finish_reason in ("stop", "noise")

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.pcm) / self.sample_rate_hz

    @property
    def prefill_rate(self) -> float:
        """Prompt positions read a second."""
        return _rate(self.prompt_tokens, self.latency_ms.get("prefill", 0.0))

    @property
    def decode_rate(self) -> float:
        """Tokens written a second, speech not counted."""
        return _rate(len(self.token_ids), self.latency_ms.get("decode", 0.0))


@dataclass(frozen=True)
class TurnDone:
    """The last event of a response, however it ended; only an error takes its place."""

    reply: Reply


def _rate(count: int, ms: float) -> float:
    return 1000 * count / ms if ms else 0.0


Event: TypeAlias = StateDecided | TextPiece | SpeechPiece | TurnDone
