"""The prompt of the reference's live demo as a layout of a session, to reproduce its replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vita_edge.runtime.decoding.segments import Segment
from vita_edge.runtime.session.prompt_layout import FinishedTurn, TurnContent, content_segments
from vita_edge.runtime.text.prompt import AUDIO, PastTurn, encode_prompt, live_demo_prompt, system_turn
from vita_edge.runtime.text.tokenizer import Tokenizer

__all__ = ["DemoLayout"]


class DemoLayout:
    """Remembers one turn, without its pictures, and puts the new pictures before it: most of it is read anew each turn.

    See :func:`~vita_edge.runtime.text.prompt.live_demo_prompt` for what it gets wrong.
    """

    keeps_turns = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def prompt(
        self, system: str, past: Sequence[FinishedTurn], turn: TurnContent | None = None, *, closed: bool = False
    ) -> list[Segment]:
        """See :class:`~vita_edge.runtime.session.prompt_layout.PromptLayout`."""
        if turn is None:
            return [Segment("text", encode_prompt(system_turn(system), self._tokenizer))]
        before = past[-1] if past else None
        said = PastTurn(before.content.counted, self._tokenizer.decode(before.reply)) if before else None
        counted = turn.counted if closed else replace(turn.counted, clips=max(turn.counted.clips, 1))
        ids = encode_prompt(live_demo_prompt(system, counted, said), self._tokenizer)
        if not closed:  # up to what the user says, which is there or comes next
            ids = ids[: len(ids) - ids[::-1].index(int(AUDIO)) - (not turn.utterances)]
        utterances = [*(before.content.utterances if before else ()), *turn.utterances]
        return content_segments(ids, turn.tiles + turn.frames, utterances)
