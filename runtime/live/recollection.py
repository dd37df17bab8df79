"""The newest turns of a dialogue, read again into a fresh cache while nobody waits: old turns leave without a stall.

Cutting the oldest turns out of the cache would leave keys at positions that are no longer theirs, and turns that still
remember what has left. Here the turns that stay are read again as they were, rows for rows, slice by slice in idle
time; when all are there the talk moves over, and stands where a fresh session would stand that was told only them.
"""

from __future__ import annotations

from ..language_model import LanguageModel
from ..splice import Segment, rows_of
from ..timeline import Timeline

__all__ = ["Recollection"]


class Recollection:
    """Reads positions 0 to ``system`` and those from ``keep_from`` on of ``timeline`` into ``model``.

    The timeline may grow meanwhile, but must not be rewound below what was read: read settled turns only.
    """

    def __init__(self, timeline: Timeline, model: LanguageModel, system: int, keep_from: int) -> None:
        self._timeline, self._model = timeline, model
        self._system, self._keep_from = system, keep_from
        self._parts: list[Segment] = []

    @property
    def shift(self) -> int:
        """Positions that have left: what is kept moves down by them."""
        return self._keep_from - self._system

    @property
    def reached(self) -> int:
        """The position of the old timeline up to which all that stays was read."""
        return self._old(self._model.position)

    def step(self, until: int, rows: int) -> int:
        """Read at most ``rows`` more, none from the old position ``until`` on; returns how many positions it read."""
        begin = self.reached
        stop = self._system if begin < self._system else until
        parts = self._timeline.between(begin, min(begin + rows, stop))
        if parts:
            self._model.read(rows_of(parts, self._model.embeddings.rows))
            self._parts += parts
        return sum(part.tokens for part in parts)

    def finish(self) -> int:
        """Read the rest and let the timeline go on over the fresh cache; returns the shift."""
        while self.step(self._timeline.position, 1 << 30):
            pass
        self._timeline.move_to(self._model, self._parts)
        return self.shift

    def _old(self, position: int) -> int:
        return position if position < self._system else position + self.shift
