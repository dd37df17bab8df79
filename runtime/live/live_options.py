"""How a live session is held."""

from __future__ import annotations

from dataclasses import dataclass, field

from vita_edge.engines.errors import Misuse

from ..session.options import SessionOptions, WhenFull, check_minimum
from ..text.prompt import Style
from ..turns.turn_events import TurnTimes

__all__ = ["LiveOptions"]


@dataclass(frozen=True, kw_only=True)
class LiveOptions(SessionOptions):
    """Options of a live session; the defaults talk with a person in front of a microphone."""

    max_new_tokens: int = 512
    """Longest reply, as in the reference's live demo."""
    style: Style = "live"
    when_full: WhenFull = "drop_oldest"
    times: TurnTimes = field(default_factory=TurnTimes)
    frames: int = 1
    """Camera frames of a turn at most: one when the user begins to speak, then one a second."""
    same_scene: float = 0.0
    """Change of a part of the picture, 0 to 255, below which a frame is not encoded again; 0: every frame is."""
    stream_audio: bool = True
    """Read the user's audio while it still goes on, where the checkpoint's audio encoder allows it."""
    voice_first: bool = True
    """The text waits while speech has work and little lead: for machines on which both share the same cores."""
    held_s: float = 4.0
    """Audio that is made at most for a speculative response."""
    voice_threshold: float = 0.5
    """Probability of speech from which a block has voice in it."""
    prefix_padding_ms: int = 250
    """Audio before the first voice that the model hears too."""
    postroll_ms: int = 120
    """Audio after the last voice that the model hears too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        times = self.times
        check_minimum(
            frames=(self.frames, 0),
            prefix_padding_ms=(self.prefix_padding_ms, 0),
            postroll_ms=(self.postroll_ms, 0),
            speculation_delay_ms=(times.speculation_delay_ms, max(self.postroll_ms, 32)),
            endpoint_ms=(times.endpoint_ms, times.speculation_delay_ms),
            barge_in_ms=(times.barge_in_ms, 32),
        )
        if not 0 <= self.same_scene <= 255:
            raise Misuse(f"same_scene is {self.same_scene}.", why="It must be 0 to 255.", fix="Give 0, or 8 to 24.")
        if not 0 < self.voice_threshold < 1:
            raise Misuse(
                f"voice_threshold is {self.voice_threshold}.", why="It is a probability.", fix="Give 0.3 to 0.8."
            )
