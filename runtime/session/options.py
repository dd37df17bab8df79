"""How a session answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from vita_edge.engines.errors import Misuse

from ..decoding.sampling_options import SamplingOptions
from ..speech.clause_synthesis import Streaming
from ..text.prompt import Style

__all__ = ["SessionOptions", "WhenFull", "check_minimum"]

WhenFull: TypeAlias = Literal["refuse", "drop_oldest"]
"""refuse: a turn that does not fit raises ContextOverflow. drop_oldest: past turns leave, and then it fits."""


@dataclass(frozen=True, kw_only=True)
class SessionOptions(SamplingOptions):
    """How a session is held."""

    style: Style = "command_line"
    """System prompts and turn format: command_line or live."""
    speak: bool = True
    """Make speech."""
    streaming: Streaming = "exact"
    context_tokens: int | None = None
    """Positions of the KV cache; None takes a full prompt and a full reply."""
    max_tiles: int | None = None
    """Most tiles for a picture; None takes 12 in command line style and the checkpoint's limit in live style."""
    when_full: WhenFull = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {"style": Style, "streaming": Streaming, "when_full": WhenFull}
        for name, kind in known.items():
            if getattr(self, name) not in get_args(kind):
                raise Misuse(
                    f"There is no {name} {getattr(self, name)}.",
                    why=f"Known: {', '.join(get_args(kind))}.",
                    fix="Choose one of them.",
                )
        check_minimum(context_tokens=(self.context_tokens, 1), max_tiles=(self.max_tiles, 1))


def check_minimum(**values: tuple[float | None, float]) -> None:
    """Raise Misuse if a value is below its minimum: name=(value, minimum); None is not checked."""
    for name, (value, minimum) in values.items():
        if value is not None and value < minimum:
            raise Misuse(f"{name} is {value}.", why=f"It must be {minimum} or more.", fix="Give a larger number.")
