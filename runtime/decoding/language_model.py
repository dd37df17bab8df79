"""The language model as the runtime uses it: prefill rows, step by token, rewind by position."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import LlmFacts
from vita_edge.engines.bundle.format import EmbeddingTable
from vita_edge.engines.errors import ContextOverflow
from vita_edge.engines.session import GraphSession
from vita_edge.engines.tensors import Array

from .top_k_logits import Logits, logits_of

__all__ = ["LanguageModel"]

T = TypeVar("T")

MIN_ROWS = 8
"""Below, a second graph gains less than the extra step through the decoder costs."""


class LanguageModel:
    """One KV cache over one session; several may share the session, one after the other.

    Args:
        session: the graph that decodes.
        prefill: a graph that reads prompts faster and gives no logits, over the same cache.
        capacity_tokens: positions that the cache has room for. Memory is taken as positions are written, not before.
    """

    def __init__(
        self,
        session: GraphSession,
        embeddings: EmbeddingTable,
        facts: LlmFacts,
        capacity_tokens: int | None = None,
        *,
        prefill: GraphSession | None = None,
    ) -> None:
        capacity = capacity_tokens or facts.context_tokens
        if capacity > facts.context_tokens:
            raise ContextOverflow(
                f"A context of {capacity} tokens is more than the model has.",
                why=f"It was made for {facts.context_tokens}.",
                fix=f"Ask for {facts.context_tokens} or fewer.",
            )
        self.embeddings = embeddings
        self.cache = (prefill or session).new_cache(capacity)
        self._session, self._prefill = session, prefill
        self.tokens_read = 0
        """Positions that were read, not decoded."""
        self._row = np.zeros((1, 1, facts.hidden_size), np.float32)

    @property
    def position(self) -> int:
        """Positions held: a mark to rewind to."""
        return self.cache.length_tokens

    @property
    def room(self) -> int:
        """Positions that are left."""
        return self.cache.capacity_tokens - self.position

    def check_room(self, positions: int, held: int | None = None) -> None:
        """Raise ContextOverflow if that many more do not fit behind ``held``, or behind all that is held."""
        taken = self.position if held is None else held
        room = self.cache.capacity_tokens - taken
        if positions > room:
            raise ContextOverflow(
                f"{positions:,} tokens do not fit into the {room:,} that are left of the context.",
                why=f"{taken:,} of {self.cache.capacity_tokens:,} are taken.",
                fix="Start a new session, shorten the input, or open the session with a larger context.",
            )

    def rewind(self, position: int) -> None:
        """Forget everything from ``position`` on; free."""
        self.cache.rewind(position)

    def prefill(self, rows: NDArray[np.float32], chunk: int | None = None) -> Logits:
        """Append ``rows`` float32 [n, hidden]; returns the logits [vocab] of the last one (valid until the next call).

        Args:
            chunk: most rows of one call; None takes what suits the engine.

        Raises:
            ContextOverflow: there is no room for all of them; the cache is as it was.
        """
        return _drained(self.prefill_steps(rows, chunk))

    def prefill_steps(self, rows: NDArray[np.float32], chunk: int | None = None) -> Generator[None, None, Logits]:
        """As :meth:`prefill`, one call of a graph for each step; the last call comes after the last step."""
        if len(rows) == 0:
            raise ValueError("nothing to prefill")
        self.check_room(len(rows))
        ahead = 0
        if self._prefill and len(rows) >= MIN_ROWS:
            ahead = len(rows) - 1  # the last row goes through the decoder, which has the head
            yield from self._append(self._prefill, rows[:ahead], chunk)
            yield
        return logits_of((yield from self._append(self._session, rows[ahead:], chunk)))

    def read(self, rows: NDArray[np.float32], chunk: int | None = None) -> None:
        """Append ``rows`` as :meth:`prefill` does, when nobody asks what follows them yet.

        Raises:
            ContextOverflow: there is no room for all of them; the cache is as it was.
        """
        _drained(self.read_steps(rows, chunk))

    def read_steps(self, rows: NDArray[np.float32], chunk: int | None = None) -> Generator[None, None, None]:
        """As :meth:`read`, one call of a graph for each step."""
        self.check_room(len(rows))
        session = self._prefill if self._prefill and len(rows) >= MIN_ROWS else self._session
        if len(rows):
            yield from self._append(session, rows, chunk)

    def step(self, token: int) -> Logits:
        """Append one token; returns the logits [vocab] that follow it (valid until the next call)."""
        self._row[0, 0] = self.embeddings.rows([token])[0]
        return logits_of(self._session.infer({"inputs_embeds": self._row}, self.cache))

    def _append(
        self, session: GraphSession, rows: NDArray[np.float32], chunk: int | None
    ) -> Generator[None, None, Mapping[str, Array]]:
        """Append at least one row, in calls of equal size: a few left over would read all weights for themselves."""
        pieces = np.array_split(rows, -(-len(rows) // (chunk or session.rows_at_once)))
        for number, piece in enumerate(pieces):
            if number:
                yield
            result = session.infer({"inputs_embeds": np.ascontiguousarray(piece, np.float32)[None]}, self.cache)
            self.tokens_read += len(piece)
        return result


def _drained(steps: Generator[None, None, T]) -> T:
    """What ``steps`` returns, once all of them are done."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value
