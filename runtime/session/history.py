"""What a session remembers: finished turns and the open one, and a KV cache that is kept in step with them.

The turns are the truth; the cache is a cache. Whatever is changed (a response is given up, a reply is cut to what was
heard, old turns leave, the instructions are others) is changed in the turns. Then the layout writes the prompt out, the
longest prefix that the cache holds already stays, and the rest is read (:class:`~..decoding.kv_timeline.Timeline`).
Synchronous, without threads and clocks: reading is a generator, one call of a graph for each step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass

from ..decoding.kv_timeline import Timeline
from ..decoding.language_model import LanguageModel
from ..decoding.sampling import Logits, Sampler
from ..decoding.segments import Segment, common_prefix, cut
from .context_compaction import Compaction
from .prompt_layout import FinishedTurn, PromptLayout, TurnContent

__all__ = ["History", "SettledTurn"]


@dataclass(frozen=True, eq=False)
class SettledTurn:
    """A turn that is over, with what it takes to go on with its reply after all."""

    turn: FinishedTurn
    reply: tuple[int, ...]
    """All ids that were decoded, of which ``turn`` keeps the first."""


class History:
    """One conversation over one KV cache.

    For every turn: :meth:`read_ahead` as often as something new is there, :meth:`read_turn`, :meth:`decode`; then one
    of :meth:`reopen`, :meth:`forget` and :meth:`settle`.

    Args:
        fresh: makes a language model with an empty cache; asked again when old turns leave.
        instructions: text of the system prompt.
        spare_tokens: positions that a reply leaves free, to end it and open the next turn.
    """

    def __init__(
        self,
        fresh: Callable[[], LanguageModel],
        layout: PromptLayout,
        instructions: str = "",
        *,
        spare_tokens: int = 0,
    ) -> None:
        self._fresh, self._layout, self._spare_tokens = fresh, layout, spare_tokens
        self.timeline = Timeline(fresh())
        self.instructions = instructions
        """Text of the system prompt; another one is read, and all that follows it, with the next turn."""
        self.trained_instructions = instructions
        """What the model was trained to see before the first turn: the instructions where nobody gives others."""
        self._turns: list[FinishedTurn] = []
        self._open: TurnContent | None = None
        self._closed = False
        self._reply: list[int] = []
        self._compaction: Compaction | None = None

    @property
    def turns(self) -> int:
        """Finished turns that are remembered."""
        return len(self._turns)

    @property
    def capacity_tokens(self) -> int:
        """Positions that the context has room for."""
        return self.timeline.model.cache.capacity_tokens

    @property
    def cache_bytes(self) -> int:
        """Memory of a full KV cache."""
        return self.timeline.model.cache.nbytes

    @property
    def fullness(self) -> float:
        """How much of the context behind the system prompt is in use, 0 to 1."""
        system = self._system_tokens
        return max(self.timeline.position - system, 0) / max(self.capacity_tokens - system, 1)

    @property
    def reply_room(self) -> int:
        """Tokens that a reply may have."""
        # the last one need not be in the cache, unless something is to follow it
        return self.timeline.room - self._spare_tokens if self._spare_tokens else self.timeline.room + 1

    # --- the open turn

    def missing(self, content: TurnContent, *, closed: bool = False) -> int:
        """Positions that would be read for ``content``."""
        return self.timeline.missing(self._prompt(self._turns, content, closed=closed))

    def fits(self, content: TurnContent) -> bool:
        """Whether the open turn fits behind the finished ones."""
        return sum(part.tokens for part in self._prompt(self._turns, content)) <= self.capacity_tokens

    def check_room(self, positions: int) -> None:
        """Raise ContextOverflow if a turn of that many positions does not fit behind the finished ones.

        A first turn counts the system prompt as its own. Where a reply leaves tokens free, one token of it must fit.
        """
        held = sum(part.tokens for part in self._prompt(self._turns)) if self._turns else 0
        self.timeline.model.check_room(positions + self._spare_tokens + bool(self._spare_tokens), held)

    def read_ahead(self, content: TurnContent) -> Generator[None, None, None]:
        """Read what is there of the open turn, although more is to follow.

        Raises:
            ContextOverflow: it does not fit.
        """
        self._open, self._closed = content, False
        yield from self.timeline.read_ahead_to(self._prompt(self._turns, content))

    def read_turn(self, content: TurnContent) -> Generator[None, None, Logits]:
        """The user has finished: read the rest of the turn.

        Returns:
            the logits of the reply, valid until the next step.

        Raises:
            ContextOverflow: it does not fit.
        """
        self._open, self._closed, self._reply = content, True, []
        return (yield from self.timeline.read_to(self._prompt(self._turns, content, closed=True)))

    def decode(
        self, logits: Logits, sample: Sampler, max_new_tokens: int, stop: Collection[int]
    ) -> Generator[int, None, None]:
        """Yield the tokens of the reply, no more than there is room for; see :meth:`Timeline.decode`."""
        for token in self.timeline.decode(logits, sample, min(max_new_tokens, self.reply_room), stop):
            if token not in stop:
                self._reply.append(token)
            yield token

    def reopen(self, content: TurnContent) -> None:
        """The user goes on: the turn is open and holds ``content``, without a trace of what followed."""
        self._open, self._closed, self._reply = content, False, []
        self._let_go()

    def forget(self) -> None:
        """The open turn was not meant for us, or failed: it leaves no trace."""
        self._open, self._closed, self._reply = None, False, []
        self._let_go()

    # --- finished turns

    def settle(self, stored: int | None = None) -> SettledTurn:
        """The turn is over: keep the first ``stored`` ids of its reply, or all of them.

        Raises:
            ValueError: there is no turn that was closed (a bug of the caller).
        """
        if self._open is None or not self._closed:
            raise ValueError("there is no reply to settle")
        reply = tuple(self._reply)
        turn = FinishedTurn(self._open, reply if stored is None else reply[:stored])
        self._turns.append(turn)
        self.forget()
        return SettledTurn(turn, reply)

    def cut_reply(self, settled: SettledTurn, stored: int) -> SettledTurn:
        """Keep no more than the first ``stored`` ids of the reply of the newest turn."""
        if not self.newest(settled):
            raise ValueError("only the reply of the newest turn can be cut")
        turn = FinishedTurn(settled.turn.content, settled.reply[:stored])
        self._turns[-1] = turn
        self._let_go()
        return SettledTurn(turn, settled.reply)

    def reopen_settled(self, settled: SettledTurn, content: TurnContent) -> None:
        """The newest turn was not over: it is open again and holds ``content``."""
        self._take_back(settled)
        self.reopen(content)

    def discard(self, settled: SettledTurn) -> None:
        """The newest turn leaves no trace."""
        self._take_back(settled)
        self.forget()

    def _take_back(self, settled: SettledTurn) -> None:
        if not self.newest(settled):
            raise ValueError("only the newest turn can be taken back")
        self._turns.pop()
        if self._compaction and self._compaction.dropped > len(self._turns):
            self._compaction = None  # it was to leave

    def newest(self, settled: SettledTurn) -> bool:
        """Whether ``settled`` is the turn that was settled last, and is remembered."""
        return bool(self._turns) and self._turns[-1] is settled.turn

    def resume(self, settled: SettledTurn, *, read: bool = True) -> Generator[None, None, Logits | None]:
        """Go on with the reply of the newest turn as if it had not been settled.

        Returns:
            the logits that follow all that was decoded of it, valid until the next step; None without ``read``, for a
            reply whose text is complete.
        """
        self._take_back(settled)
        self._open, self._closed, self._reply = settled.turn.content, True, list(settled.reply)
        if not read:
            return None
        return (yield from self.timeline.read_to(self._state()))

    def clear(self) -> None:
        """Forget everything."""
        self._turns, self._compaction = [], None
        self._open, self._closed, self._reply = None, False, []
        self.timeline.rewind(0)

    def drop_turns(self) -> bool:
        """Let all past turns leave at once; False when there is none."""
        if not self._turns:
            return False
        self._turns, self._compaction = [], None
        return True

    # --- old turns leave while nobody waits

    def begin_compaction(self, keep: float) -> bool:
        """Begin to read the newest turns into a fresh cache; False if all stay.

        Args:
            keep: how much of the context behind the system prompt they may take, 0 to 1.
        """
        keep_tokens = keep * (self.capacity_tokens - self._system_tokens)
        dropped = 0
        while dropped < len(self._turns) and self._finished_tokens(dropped) > keep_tokens:
            dropped += 1
        if not dropped or not self._layout.keeps_turns:
            return False
        self._compaction = Compaction(Timeline(self._fresh()), dropped)
        return True

    @property
    def compacting(self) -> bool:
        """A fresh cache is being filled."""
        return self._compaction is not None

    def compact(self, tokens: int) -> int:
        """Read at most ``tokens`` positions into the fresh cache, and go on over it when it holds all that stays.

        Not between the tokens of a reply. Returns how many positions were read.
        """
        if (compaction := self._compaction) is None:
            return 0
        whole, shorter = self._state(), self._state(compaction.dropped)
        unread = self.timeline.missing(whole)
        total = sum(part.tokens for part in shorter) - unread
        read = compaction.step(cut(shorter, 0, total), tokens)
        if compaction.complete(total):
            self.timeline, self._compaction = compaction.fresh, None
            del self._turns[: compaction.dropped]
        return read

    # --- the prompt

    def _prompt(
        self, turns: list[FinishedTurn], content: TurnContent | None = None, *, closed: bool = False
    ) -> list[Segment]:
        return self._layout.prompt(self.instructions, turns, content, closed=closed)

    def _state(self, dropped: int = 0) -> list[Segment]:
        """What the cache should hold now, without the oldest ``dropped`` turns."""
        prompt = self._prompt(self._turns[dropped:], self._open, closed=self._closed)
        return [*prompt, Segment("reply", tuple(self._reply))]

    def _let_go(self) -> None:
        """Forget what is not part of the conversation any more."""
        nothing = not self._turns and self._open is None
        prompt = [] if nothing else self._prompt(self._turns, self._open, closed=self._closed)
        self.timeline.rewind(common_prefix(self.timeline.segments, prompt))

    @property
    def _system_tokens(self) -> int:
        return sum(part.tokens for part in self._prompt([]))

    def _finished_tokens(self, first: int) -> int:
        """Positions of the finished turns from ``first`` on."""
        return sum(part.tokens for part in self._prompt(self._turns[first:])) - self._system_tokens
