"""How a conversation is written out as one prompt: turns in, segments of the KV cache out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from ..decoding.segments import Rows, Segment, segments
from ..text.prompt import (
    AUDIO,
    PromptPart,
    Style,
    UserTurn,
    encode_prompt,
    end_of_turn,
    system_turn,
    user_closing,
    user_content,
    user_opening,
)
from ..text.tokenizer import Tokenizer

__all__ = ["ChronologicalLayout", "FinishedTurn", "PromptLayout", "TurnContent", "content_segments"]


@dataclass(frozen=True, eq=False)
class TurnContent:
    """What the user hands over in one turn, encoded."""

    text: str = ""
    tiles: tuple[Rows, ...] = ()
    """Of still pictures, thumbnails included."""
    frames: tuple[Rows, ...] = ()
    utterances: tuple[tuple[Rows, ...], ...] = ()
    """Each in the pieces in which it was encoded."""

    @property
    def counted(self) -> UserTurn:
        """How many marks of each kind it has in a prompt."""
        return UserTurn(self.text, len(self.tiles), len(self.frames), len(self.utterances))


@dataclass(frozen=True, eq=False)
class FinishedTurn:
    """A turn that is over: what was asked, and the ids of the reply that the history keeps, maybe none."""

    content: TurnContent
    reply: tuple[int, ...]


class PromptLayout(Protocol):
    """Writes a conversation out. What it gives for a conversation that goes on should begin as before: what does is not
    read again."""

    keeps_turns: bool
    """All past turns are part of the prompt, so that it grows until some of them leave."""

    def prompt(
        self, system: str, past: Sequence[FinishedTurn], turn: TurnContent | None = None, *, closed: bool = False
    ) -> list[Segment]:
        """The segments of the whole prompt.

        Args:
            system: text of the system prompt.
            past: finished turns, oldest first.
            turn: the one that the user is at; None ends the prompt with the last reply.
            closed: the user has finished, and the reply follows.
        """
        ...


class ChronologicalLayout:
    """Turns as they happened (docs/decisions/0004)."""

    keeps_turns = True

    def __init__(self, tokenizer: Tokenizer, style: Style) -> None:
        self._style = style
        self._ids = lru_cache(maxsize=256)(lambda parts: tuple(encode_prompt(parts, tokenizer)))

    def prompt(
        self, system: str, past: Sequence[FinishedTurn], turn: TurnContent | None = None, *, closed: bool = False
    ) -> list[Segment]:
        written = [Segment("text", self._ids((*system_turn(system),)))]
        for number, each in enumerate(past):
            written += self._user_turn(each.content, first=number == 0, closed=True)
            written.append(Segment("reply", each.reply))
        if turn is not None:
            written += self._user_turn(turn, first=not past, closed=closed)
        return written

    def _user_turn(self, content: TurnContent, *, first: bool, closed: bool) -> list[Segment]:
        parts: list[PromptPart] = [] if first else end_of_turn()
        parts += [*user_opening(), *user_content(content.counted, self._style), *(user_closing() if closed else ())]
        return content_segments(self._ids(tuple(parts)), content.tiles + content.frames, content.utterances)


def content_segments(
    ids: Sequence[int], pictures: Sequence[Rows], utterances: Sequence[Sequence[Rows]]
) -> list[Segment]:
    """:func:`~vita_edge.runtime.decoding.segments.segments` of utterances that lie in pieces."""
    pieces = iter(utterances)
    spread = [mark for i in ids for mark in ([i] * len(next(pieces)) if i == AUDIO else [i])]
    return segments(spread, pictures, [rows for utterance in utterances for rows in utterance])
