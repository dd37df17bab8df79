"""What is recorded: which inputs, which conversations, which sentences, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MAX_CODES", "Conversation", "Plan"]

MAX_CODES = 1000
"""A sentence has no more."""


@dataclass(frozen=True)
class Conversation:
    """A question, with the media that belong to it: names of files of the inputs."""

    system: str
    """Which system prompt: lang, image, video (command line); audio, video (live)."""
    text: str = ""
    """Empty: the question is spoken."""
    picture: str = ""
    clip: str = ""
    """A list of frames."""
    sounds: tuple[str, ...] = ()
    """With a past turn: that of the past first."""
    live: bool = False
    past: str = ""
    """The conversation whose reply is in the history."""
    stray_mark: bool = False
    """The history holds the mark of the first sentence, as in the published live demo."""
    spoken: bool = False
    """The reply is recorded as sound as well."""

    def case(self, live_frames: list[int], *, pad: bool) -> dict[str, Any]:
        """How ``cases.json`` tells it."""
        tiles = "<image> x tiles, newline, " if self.picture else ""
        if self.clip:
            tiles = "<image> x 4, " if self.live else "<image> x frames, newline, "
        style = "live, second turn" if self.past else "live" if self.live else "command line"
        reported: dict[str, Any] = {"style": style, "system": self.system, "user": tiles + (self.text or "<audio>")}
        if self.picture:
            reported["picture"] = self.picture
        if self.clip and self.live:
            reported["clip"] = {"file": self.clip, "frames": live_frames, "mode": "one tile per frame"}
        elif self.clip:
            how = "sampled one per second, at least 4"
            reported["clip"] = {"file": self.clip, "frames": how, "mode": "pad" if pad else "square"}
        if self.sounds:
            reported["audio"] = list(self.sounds)
        return reported


@dataclass(frozen=True)
class Plan:
    """Everything that one folder of recorded arrays holds."""

    sounds: tuple[str, ...]
    """Stems of ``.wav`` files."""
    pictures: tuple[str, ...]
    """Stems of ``.png`` files."""
    conversations: Mapping[str, Conversation]
    sentences: Mapping[str, str]
    sampled_clip: str = ""
    """A list of frames that is sampled in both framing modes."""
    full_attention: tuple[str, ...] = ()
    """Sounds that are encoded a second time, without the chunk mask."""
    max_tokens: int = 48
    max_reply_tokens: int = 40
    max_codes: int = MAX_CODES
    logit_steps: int = 60
    """Steps of the speech decoder whose logits are recorded."""
    texts: tuple[str, ...] = field(default=())
    """For the tokenizer."""
