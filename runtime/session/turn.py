"""What a user hands over at once, and how a conversation is to be held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import Misuse

from ..audio_io.sound import Sound
from ..speech.clause_synthesis import Streaming
from ..text.prompt import Style

__all__ = ["Options", "Turn"]


@dataclass(frozen=True)
class Turn:
    """What the user says and shows at once."""

    text: str = ""
    sounds: Sequence[Sound] = ()
    images: Sequence[NDArray[np.uint8]] = ()
    """Still pictures uint8 [H, W, 3], each cut into tiles."""
    frames: Sequence[NDArray[np.uint8]] = ()
    """Frames of a video in order, uint8 [H, W, 3], one tile each."""


@dataclass(frozen=True)
class Options:
    """How a conversation is held."""

    style: Style = "command_line"
    """Which system prompts and turn format: command_line or live."""
    speak: bool = True
    streaming: Streaming = "exact"
    max_new_tokens: int = 1024
    temperature: float = 0.0
    """Of the text; 0 takes the most likely token, as the reference does."""
    top_k: int = 0
    """Of the text, when the temperature is not 0; 0 draws from all tokens."""
    speech_top_k: int = 2
    """Codes to draw from, 2 in the reference's demo; 1 takes the most likely code."""
    seed: int = 0
    context_tokens: int | None = None
    """Positions of the KV cache; None takes a full prompt and a full reply."""
    max_tiles: int | None = None
    """Most tiles for a picture; None takes 12 in command line style and the checkpoint's limit in live style."""

    def __post_init__(self) -> None:
        for name, known in (("style", get_args(Style)), ("streaming", get_args(Streaming))):
            if getattr(self, name) not in known:
                raise Misuse(
                    f"There is no {name} {getattr(self, name)}.", why=f"Known: {', '.join(known)}.", fix="Choose one."
                )
        for name, least in (("max_new_tokens", 1), ("context_tokens", 1), ("max_tiles", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise Misuse(
                    f"{name} is {value}.", why=f"It must be {least} or more.", fix="Give a larger number, or none."
                )
