"""A spoken dialogue on the KV timeline: whatever can be read before the user has finished is read before.

The system prompt, past turns, the role line and the frames of a turn lie in the cache while the user still speaks, and
so do those rows of the user's own sound that cannot change any more. After the last sample only the rest of the sound
and the closing tokens are read. It is synchronous, and knows no thread, queue or clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import ModelFacts

from ..decoding.language_model import LanguageModel
from ..decoding.sampling import Logits
from ..decoding.segments import Rows, Segment, segments
from ..encoders.encoders import Encoders
from ..text.prompt import (
    AUDIO,
    PastTurn,
    PromptPart,
    UserTurn,
    encode_prompt,
    end_of_turn,
    live_demo_prompt,
    system_prompt,
    system_turn,
    user_closing,
    user_opening,
)
from ..text.tokenizer import Tokenizer
from .old_recollection import Recollection
from .old_timeline import Timeline

__all__ = ["Dialogue", "Order", "SettledTurn"]

Order: TypeAlias = Literal["chronological", "demo"]
"""chronological: turns as they happened. demo: the prompt of the reference's live demo, which remembers one turn, puts
the new pictures before it, and has to be read anew from there for every turn."""

PIECE_ROWS = 4
"""Rows of sound worth encoding while the user speaks: 0.32 s. Less would be left at the end, but the encoder's weights
are read for every piece."""
MIN_ROWS = 8
"""Rows of sound worth reading while the user speaks: 0.64 s. The language model's weights are read for it."""


@dataclass(frozen=True)
class _Place:
    """Where a turn lies in the timeline: positions."""

    turn: int
    """The role line of the user."""
    asked: int
    """Behind the rows that were read while the user spoke."""
    reply: int
    """Where the reply begins."""


@dataclass(frozen=True)
class SettledTurn:
    """A turn that is over, with what it takes to go on with its reply after all."""

    place: _Place
    reply: tuple[int, ...]
    """All ids that were decoded."""
    kept: int
    """How many of them the dialogue has kept."""
    frames: tuple[Rows, ...]
    clip: Rows
    past: tuple[PastTurn, Rows] | None


class Dialogue:
    """One dialogue. Its methods are called in the order of a talk: open; then for every turn see, hear and listen as
    often as the user lets us, hear and ask; then one of unask, forget and settle.

    Args:
        model: over whose cache it is held.
        fresh: makes another model with an empty cache of the same size, for when old turns leave.
        sees: there may be frames; chooses the system prompt.
    """

    def __init__(
        self,
        model: LanguageModel,
        fresh: Callable[[], LanguageModel],
        encoders: Encoders,
        tokenizer: Tokenizer,
        facts: ModelFacts,
        prompts: Mapping[str, Mapping[str, str]],
        *,
        sees: bool = False,
        order: Order = "chronological",
    ) -> None:
        self.timeline = Timeline(model)
        self._fresh, self._encoders, self._tokenizer = fresh, encoders, tokenizer
        self._system_text = system_prompt(prompts, "live", UserTurn(frames=int(sees), clips=1))
        self._order = order
        self._turns: list[int] = []
        """Where each finished turn begins."""
        self._system = 0
        self._place = _Place(0, 0, 0)
        self._frames: list[Rows] = []
        self._encoder = encoders.new_clip()
        self._heard: list[Rows] = []
        """Rows of the open turn's sound that stay as they are however it goes on."""
        self._listened = 0
        self._clip: Rows = np.empty((0, facts.llm.hidden_size), np.float32)
        """All rows of what was heard to its end last."""
        self._past: tuple[PastTurn, Rows] | None = None
        self._recollection: Recollection | None = None

    @property
    def turns(self) -> int:
        """Finished turns that are remembered."""
        return len(self._turns)

    @property
    def capacity_tokens(self) -> int:
        """Positions that the context has room for."""
        return self.timeline.model.cache.capacity_tokens

    @property
    def fullness(self) -> float:
        """How much of the context behind the system prompt is in use, 0 to 1."""
        return (self.timeline.position - self._system) / (self.capacity_tokens - self._system)

    @property
    def reply_room(self) -> int:
        """Tokens that a reply may have, so that there is still room to end it and to open the next turn."""
        return self.timeline.room - self._tokens(end_of_turn()) - self._tokens(user_opening())

    def open(self) -> None:
        """Read the system prompt and the first role line."""
        self.timeline.append_ahead(self._text(system_turn(self._system_text)))
        self._system = self.timeline.position
        self._open_turn()

    def see(self, tiles: Sequence[Rows]) -> None:
        """Read a camera frame's rows into the open turn, before any of its sound.

        Raises:
            ValueError: some of the sound was read already (a bug of the caller).
            ContextOverflow: the frame does not fit even without the past.
        """
        if self._listened:
            raise ValueError("frames come before the sound")
        self._make_room(sum(len(tile) for tile in tiles))
        self._frames += tiles
        if self._order == "demo":
            self._reopen()
        else:
            self.timeline.append_ahead([Segment("image", tile) for tile in tiles])
            self._place = replace(self._place, asked=self.timeline.position)

    @property
    def frames(self) -> int:
        """Frames of the open turn."""
        return len(self._frames)

    @property
    def untouched(self) -> bool:
        """Nothing of the open turn was seen or heard."""
        return not self._frames and not self._heard

    @property
    def listened(self) -> int:
        """Rows of the open turn's sound that were read while it still went on."""
        return self._listened

    def worth_hearing(self, samples: int) -> bool:
        """Whether enough is new of a sound of that many samples so far to be encoded, although it goes on."""
        return self._encoder.ready(samples) >= PIECE_ROWS

    @property
    def worth_listening(self) -> bool:
        """Whether enough of what was encoded can be read although the sound goes on, and was not."""
        return self._unread >= MIN_ROWS

    def hear(self, samples: NDArray[np.float32], *, ended: bool = True) -> int:
        """Encode what is new of the user's sound: to its end, or only what stays as it is however it goes on.

        Args:
            samples: the sound so far, float32 [n] at 16 kHz.

        Returns:
            how many rows were encoded.

        Raises:
            BadInput: the sound cannot be used.
        """
        if not ended:
            self._heard.append(self._encoder.step(samples))
            return len(self._heard[-1])
        rest = self._encoder.finish(samples)
        self._clip = np.concatenate([*self._heard, rest])
        return len(rest)

    def listen(self) -> None:
        """Read what was encoded of the user's sound while it goes on.

        Raises:
            ContextOverflow: they do not fit even without the past.
        """
        self._make_room(self._unread)
        if self._unread:
            rows = np.concatenate(self._heard)[self._listened :]
            self.timeline.append_ahead([Segment("sound", rows)])
            self._listened += len(rows)
            self._place = replace(self._place, asked=self.timeline.position)

    def ask(self) -> Logits:
        """Read the rest of what was heard, and the closing tokens: the logits of the reply.

        When they do not fit, all past turns leave at once, since the user is waiting.

        Raises:
            ContextOverflow: the turn does not fit even alone.
        """
        closing = self._text(user_closing())
        self._make_room(len(self._clip) - self._listened + sum(part.tokens for part in closing))
        rest = self._clip[self._listened :]
        parts = [*([Segment("sound", rest)] if len(rest) else []), *closing]
        logits = self.timeline.append(parts)
        self._place = replace(self._place, reply=self.timeline.position)
        return logits

    def unask(self) -> None:
        """The user goes on: the turn is open as it was before it was asked, without a trace of what followed."""
        self._rewind(self._place.asked)

    def forget(self) -> None:
        """What was heard was not meant for us: the turn is empty again."""
        self._rewind(self._place.turn)
        self._open_turn()

    def settle(self, reply: Sequence[int], kept: int) -> SettledTurn:
        """The turn is over: keep the first ``kept`` of the ids that were decoded as its reply, and open the next."""
        place = self._place
        turn = SettledTurn(place, tuple(reply), kept, tuple(self._frames), self._clip, self._past)
        self._rewind(min(place.reply + kept, self.timeline.position))
        if self._order == "demo":
            said = self._tokenizer.decode(reply[:kept])
            self._past = PastTurn(UserTurn(frames=len(self._frames), clips=1), said), self._clip
        else:
            self.timeline.append_ahead(self._text(end_of_turn()))
            self._turns.append(place.turn)
        self._open_turn()
        return turn

    def resume(self, turn: SettledTurn) -> Logits:
        """Go on with a reply as if its turn had not been settled: the logits that follow all of it.

        Only the turn that was settled last can be resumed, and not once old turns have left.
        """
        begin = 0
        self._past = turn.past
        if self._order == "demo":
            self._open_turn(turn.frames)
            self.timeline.append_ahead([Segment("sound", turn.clip), *self._text(user_closing())])
        else:
            self._turns.pop()
            begin = min(turn.kept, len(turn.reply) - 1)  # the last id is read again for what follows it
            self._rewind(turn.place.reply + begin)
        self._place, self._frames, self._clip = turn.place, list(turn.frames), turn.clip
        return self.timeline.append([Segment("reply", list(turn.reply[begin:]))])

    # --- old turns leave

    def remember_less(self, keep: float) -> bool:
        """Begin to read the newest turns into a fresh cache; False if all stay.

        Args:
            keep: how much of the context behind the system prompt they may take, 0 to 1.
        """
        keep_tokens = keep * (self.capacity_tokens - self._system)
        kept = [begin for begin in self._turns if self._place.turn - begin <= keep_tokens]
        keep_from = kept[0] if kept else self._place.turn
        if self._order == "demo" or keep_from == self._system:
            return False
        self._recollection = Recollection(self.timeline, Timeline(self._fresh()), self._system, keep_from)
        return True

    @property
    def recollecting(self) -> bool:
        """A fresh cache is being filled."""
        return self._recollection is not None

    def recollect(self, rows: int) -> int:
        """Read at most ``rows`` positions into the fresh cache, and go on over it when it holds all that stays.

        Not between the tokens of a reply. Returns how many positions were read.
        """
        recollection = self._recollection
        if recollection is None:
            return 0
        read = recollection.step(rows)
        if recollection.complete:
            shift, self._recollection = recollection.shift, None
            self.timeline = recollection.fresh
            self._turns = [turn - shift for turn in self._turns if turn - shift >= self._system]
            place = self._place
            self._place = _Place(place.turn - shift, place.asked - shift, place.reply - shift)
        return read

    def _make_room(self, positions: int) -> None:
        """Let all past turns leave at once when the open one does not fit: the user is waiting."""
        if positions > self.timeline.room and self._turns:
            self._turns = []
            self._rewind(self._system)
            self._begin_turn(self._frames)

    def _rewind(self, position: int) -> None:
        self.timeline.rewind(position)
        if self._recollection and not self._recollection.rewind(position):
            self._recollection = None

    # --- parts

    @property
    def _unread(self) -> int:
        return sum(map(len, self._heard)) - self._listened

    def _open_turn(self, frames: Sequence[Rows] = ()) -> None:
        """Begin a turn of which nothing was heard."""
        self._encoder, self._heard = self._encoders.new_clip(), []
        self._begin_turn(frames)

    def _begin_turn(self, frames: Sequence[Rows]) -> None:
        """Begin a turn where the last one ends."""
        begin = self._system if self._order == "demo" else self.timeline.position
        self._place = _Place(begin, begin, begin)
        self._frames, self._listened = list(frames), 0
        self._reopen()

    def _reopen(self) -> None:
        """Read all that comes before the user's sound."""
        self._rewind(self._place.turn)
        if self._order == "demo":
            self.timeline.append_ahead(self._before_in_demo())
        else:
            self.timeline.append_ahead(self._text(user_opening()))
            if self._frames:
                self.timeline.append_ahead([Segment("image", tile) for tile in self._frames])
        self._place = replace(self._place, asked=self.timeline.position)

    def _before_in_demo(self) -> list[Segment]:
        past, clips = (self._past[0], [self._past[1]]) if self._past else (None, [])
        turn = UserTurn(frames=len(self._frames), clips=1)
        ids = encode_prompt(live_demo_prompt(self._system_text, turn, past), self._tokenizer)
        last_sound = len(ids) - 1 - ids[::-1].index(int(AUDIO))
        system = encode_prompt(system_turn(self._system_text), self._tokenizer)
        return segments(ids[len(system) : last_sound], self._frames, clips)

    def _tokens(self, parts: Sequence[PromptPart]) -> int:
        return len(encode_prompt(parts, self._tokenizer))

    def _text(self, parts: Sequence[PromptPart]) -> list[Segment]:
        return [Segment("text", encode_prompt(parts, self._tokenizer))]
