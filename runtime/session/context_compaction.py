"""The newest turns of a conversation, read again into a fresh cache while nobody waits: old turns leave without a
stall.

Cutting the oldest turns out of the cache would leave keys at positions that are no longer theirs, and turns that still
remember what has left. Here the turns that stay are read again as they were, rows for rows, slice by slice in idle
time; when all are there the session moves over, and stands where a fresh one would stand that heard only them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..decoding.kv_timeline import Timeline
from ..decoding.segments import Segment, common_prefix, cut

__all__ = ["Compaction"]


class Compaction:
    """Fills ``fresh``, a timeline with an empty cache, with a conversation without its oldest ``dropped`` turns."""

    def __init__(self, fresh: Timeline, dropped: int) -> None:
        self.fresh, self.dropped = fresh, dropped

    def step(self, prompt: Sequence[Segment], tokens: int) -> int:
        """Read at most ``tokens`` more of ``prompt``, which may have changed; returns how many positions it read."""
        held = common_prefix(self.fresh.segments, prompt)
        before = self.fresh.tokens_read
        for _ in self.fresh.read_ahead_to(cut(prompt, 0, held + tokens)):
            pass
        return self.fresh.tokens_read - before

    def complete(self, total: int) -> bool:
        """Whether all ``total`` positions are there."""
        return self.fresh.position == total
