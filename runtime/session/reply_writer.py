"""A reply while it is written: token ids in; state, text, and clauses to be spoken out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vita_edge.engines.bundle.facts import ModelFacts

from ..decoding.sampling import Sampler, TokenSampler
from ..events.reply_events import State, StateDecided, TextPiece
from ..text.clause_cutter import Clause, ClauseCutter
from ..text.prompt import Style
from ..text.stop_strings import StopStrings
from ..text.tokenizer import StreamDecoder, Tokenizer

__all__ = ["ReadyClause", "ReplyWriter", "Written"]


@dataclass(frozen=True)
class ReadyClause:
    """A clause that is complete and can be spoken."""

    clause: Clause
    tokens: int
    """Tokens of the reply up to its last character, the state token included."""


Written: TypeAlias = StateDecided | TextPiece | ReadyClause


class ReplyWriter:
    """Takes the tokens of one reply, one at a time.

    Attributes:
        state: the kind of the question, until the first token says more.
        marked: the first token was a state token.
        text: what was written so far, without the state token.
        token_ids: what was decoded so far, without the token that ends a reply.
        flushed: all of the text was handed out; nothing can follow.
        finished: the model has ended the reply, or a stop string has; no further token is required.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        facts: ModelFacts,
        asked: State,
        style: Style,
        *,
        stop_strings: Sequence[str] = (),
    ) -> None:
        self._facts = facts
        self._decoder = StreamDecoder(tokenizer)
        self._stop_strings = StopStrings(stop_strings)
        self._cutter = ClauseCutter()
        self._characters: list[int] = []
        """Decoded after each token; the first of them are ``text``."""
        self._ready_characters = 0
        """Of ``text``, up to the end of the last clause."""
        self.state = asked
        self.marked = False
        self.text = ""
        self.token_ids: list[int] = []
        self.finished = self.flushed = False
        # only the command line program stops where a next turn would begin
        self.stop: Collection[int] = set(facts.tokens.stop) - ({facts.tokens.im_start} if style == "live" else set())

    def choose(self, sample: TokenSampler) -> Sampler:
        """``sample`` with the tokens of this reply before it."""
        return sample.following(self.token_ids)

    def step(self, token: int) -> Iterator[Written]:
        """Take the next token; the first is answered with the state."""
        first = not self.token_ids
        if first:
            self._decide(token)
        self.finished = token in self.stop
        if not self.finished:
            self.token_ids.append(token)
        if first:
            yield StateDecided(self.state, self.marked)
        if not self.finished:
            piece = "" if first and self.marked else self._decoder.step(token)
            self._characters.append((self._characters[-1] if self._characters else 0) + len(piece))
            yield from self._write(piece)

    def flush(self) -> Iterator[Written]:
        """No token will follow: what was held back."""
        self.flushed = True
        yield from self._write(self._decoder.flush())
        yield from self._add(self._stop_strings.flush())
        yield from self._ready(self._cutter.flush())

    def _write(self, piece: str) -> Iterator[Written]:
        released = self._stop_strings.step(piece)
        self.finished = self.finished or self._stop_strings.found is not None
        yield from self._add(released)

    def _add(self, piece: str) -> Iterator[Written]:
        if piece:
            self.text += piece
            yield TextPiece(piece)
            yield from self._ready(self._cutter.step(piece))

    def _ready(self, clauses: Iterator[Clause]) -> Iterator[Written]:
        for clause in clauses:
            self._ready_characters += len(clause.written)
            yield ReadyClause(clause, self._tokens_of(self._ready_characters))

    def _tokens_of(self, characters: int) -> int:
        """The tokens in which so many characters of the reply were written; a clause is known to end only later."""
        return min(bisect_left(self._characters, characters) + 1, len(self.token_ids))

    def _decide(self, token: int) -> None:
        """The first token says whether the model was addressed; otherwise the kind of the question stands."""
        tokens = self._facts.tokens
        meaning: dict[int | None, State] = {
            tokens.state_text: "text",
            tokens.state_speech: "speech",
            tokens.state_noise: "noise",
        }
        self.marked = token in meaning
        self.state = meaning.get(token, self.state)
