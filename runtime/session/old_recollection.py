"""The newest turns of a dialogue, read again into a fresh cache while nobody waits: old turns leave without a stall.

Cutting the oldest turns out of the cache would leave keys at positions that are no longer theirs, and turns that still
remember what has left. Here the turns that stay are read again as they were, rows for rows, slice by slice in idle
time; when all are there the talk moves over, and stands where a fresh session would stand that was told only them.
"""

from __future__ import annotations

from .old_timeline import Timeline

__all__ = ["Recollection"]


class Recollection:
    """Reads positions 0 to ``system`` and those from ``keep_from`` on of one timeline into ``fresh``, another one."""

    def __init__(self, timeline: Timeline, fresh: Timeline, system: int, keep_from: int) -> None:
        self._timeline, self.fresh = timeline, fresh
        self._system, self._keep_from = system, keep_from

    @property
    def shift(self) -> int:
        """Positions that leave: what stays moves down by them."""
        return self._keep_from - self._system

    @property
    def reached(self) -> int:
        """The old position up to which all that stays was read."""
        read = self.fresh.position
        return read if read < self._system else read + self.shift

    @property
    def complete(self) -> bool:
        """The fresh timeline holds all that the old one does, without what leaves."""
        return self.reached == self._timeline.position

    def step(self, rows: int) -> int:
        """Read at most ``rows`` more; returns how many positions it read."""
        begin = self.reached
        stop = self._system if begin < self._system else self._timeline.position
        end = min(begin + rows, stop)
        if begin < end:
            self.fresh.append_ahead(self._timeline.between(begin, end))
        return end - begin

    def rewind(self, position: int) -> bool:
        """The old timeline was rewound to ``position``; False when that lies in what was to leave."""
        if self._system < position < self._keep_from:
            return False
        if self.reached > position:
            self.fresh.rewind(position if position <= self._system else position - self.shift)
        return True
