"""How a live talk is held."""

from __future__ import annotations

from dataclasses import dataclass, field

from vita_edge.engines.errors import Misuse

from ..turns.turn_events import TurnTimes
from .dialogue import Order

__all__ = ["LiveOptions"]


@dataclass(frozen=True)
class LiveOptions:
    """Options of a live talk; the defaults talk with a person in front of a microphone."""

    times: TurnTimes = field(default_factory=TurnTimes)
    order: Order = "chronological"
    """Of the prompt; ``demo`` is that of the reference's live demo."""
    frames: int = 1
    """Camera frames of a turn at most: one when the user begins to speak, then one a second."""
    same_scene: float = 0.0
    """Change of a part of the picture, 0 to 255, below which a frame is not encoded again; 0: every frame is."""
    stream_audio: bool = True
    """Read the user's sound while it still goes on, where the checkpoint's audio encoder allows it."""
    voice_first: bool = True
    """The text waits while the voice has work and little lead: for machines on which both share the same cores."""
    held_s: float = 4.0
    """Sound that is made at most for an answer that may still be forgotten."""
    voice_threshold: float = 0.5
    """Probability of speech from which a block has voice in it."""
    prefix_padding_ms: int = 250
    """Sound before the first voice that the model hears too."""
    postroll_ms: int = 120
    """Sound after the last voice that the model hears too."""
    max_new_tokens: int = 512
    """Longest reply, as in the reference's live demo."""
    temperature: float = 0.0
    top_k: int = 0
    speech_top_k: int = 2
    seed: int = 0
    context_tokens: int | None = None
    """Positions of the KV cache; None takes a full prompt and a full reply."""

    def __post_init__(self) -> None:
        times = self.times
        for name, value, least in (
            ("frames", self.frames, 0),
            ("max_new_tokens", self.max_new_tokens, 1),
            ("prefix_padding_ms", self.prefix_padding_ms, 0),
            ("postroll_ms", self.postroll_ms, 0),
            ("speculation_delay_ms", times.speculation_delay_ms, max(self.postroll_ms, 32)),
            ("endpoint_ms", times.endpoint_ms, times.speculation_delay_ms),
            ("barge_in_ms", times.barge_in_ms, 32),
        ):
            if value < least:
                raise Misuse(f"{name} is {value}.", why=f"It must be {least} or more.", fix="Give a larger number.")
        if not 0 <= self.same_scene <= 255:
            raise Misuse(f"same_scene is {self.same_scene}.", why="It must be 0 to 255.", fix="Give 0, or 8 to 24.")
        if not 0 < self.voice_threshold < 1:
            raise Misuse(
                f"voice_threshold is {self.voice_threshold}.", why="It is a probability.", fix="Give 0.3 to 0.8."
            )
