"""The KV timeline: a conversation as a list of segments that lie one after the other in the KV cache.

Append, mark, rewind. A mark is a position; everything behind it is forgotten at no cost. Prefixes that stay, attempts
that are given up, and replies that are cut to what was heard are all one operation: rewind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ..decoding.language_model import LanguageModel
from ..decoding.sampling import Logits, Sampler
from ..decoding.segments import Rows, Segment, rows_of

__all__ = ["Timeline"]


class Timeline:
    """What the language model has before it, and where.

    What is said last is not in the cache yet (its logits are not needed before something follows it): it is *pending*,
    counts as a position, and is written with whatever comes next.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._segments: list[Segment] = []
        self._pending: list[int] = []
        self.tokens_read = 0
        """Positions that were read, not decoded, since it was made."""

    @property
    def model(self) -> LanguageModel:
        """The model whose cache it is."""
        return self._model

    @property
    def position(self) -> int:
        """Positions in use: a mark to rewind to."""
        return self._model.position + len(self._pending)

    @property
    def room(self) -> int:
        """Positions that are left."""
        return self._model.cache.capacity_tokens - self.position

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What is held, from position 0 on, without gaps."""
        return tuple(self._segments)

    def check_room(self, positions: int) -> None:
        """Raise ContextOverflow if that many more do not fit."""
        self._model.check_room(len(self._pending) + positions)

    def append(self, parts: Sequence[Segment]) -> Logits:
        """Read ``parts``; returns the logits [vocab] that follow the last of them, valid until the next call.

        Raises:
            ContextOverflow: there is no room; the timeline is as it was.
        """
        logits = self._model.prefill(self._rows(parts))
        self._read(parts)
        return logits

    def append_ahead(self, parts: Sequence[Segment]) -> None:
        """Read ``parts`` when more is to follow, so that nobody asks for logits yet.

        Raises:
            ContextOverflow: there is no room; the timeline is as it was.
        """
        self._model.read(self._rows(parts))
        self._read(parts)

    def _rows(self, parts: Sequence[Segment]) -> Rows:
        waiting = [Segment("reply", self._pending)] if self._pending else []
        return rows_of([*waiting, *parts], self._model.embeddings.rows)

    def _read(self, parts: Sequence[Segment]) -> None:
        self.tokens_read += len(self._pending) + sum(part.tokens for part in parts)
        self._pending = []
        self._segments += parts

    def decode(self, logits: Logits, sample: Sampler, max_new_tokens: int, stop: Collection[int]) -> Iterator[int]:
        """Yield the tokens of a reply, beginning with the one that ``logits`` asks for; leave the loop to end it.

        A token of ``stop`` is yielded and ends it; it does not become part of the timeline. Once something else has
        been appended or rewound, the loop must be left; a reply goes on by appending what was said and decoding anew.
        """
        said: list[int] = []
        self._segments.append(Segment("reply", said))
        for produced in range(1, max_new_tokens + 1):
            token = sample(logits)
            if token in stop:
                yield token
                return
            said.append(token)
            self._pending = [token]
            yield token
            if produced < max_new_tokens:
                logits = self._model.step(token)
                self._pending = []

    def rewind(self, position: int) -> None:
        """Forget everything from ``position`` on.

        Raises:
            ValueError: there is nothing there to go back to (a bug of the caller).
        """
        if not 0 <= position <= self.position:
            raise ValueError(f"cannot rewind a timeline of {self.position} positions to {position}")
        if position <= self._model.position:
            self._model.rewind(position)
            self._pending = []
        kept: list[Segment] = []
        for segment in self._segments:
            if segment.tokens > position:
                if position:
                    kept.append(segment.first(position))
                break
            position -= segment.tokens
            kept.append(segment)
        self._segments = kept

    def between(self, begin: int, end: int) -> list[Segment]:
        """The segments from position ``begin`` to ``end``; those at its ends are cut."""
        found, at = [], 0
        for segment in self._segments:
            low, high = max(begin - at, 0), min(end - at, segment.tokens)
            if low < high:
                found.append(Segment(segment.kind, segment.content[low:high]))
            at += segment.tokens
        return found
