"""What lets the audio graph hear a clip piece by piece: where a piece lies, what it sees, what it hands on to the next.

The encoder is causal by chunks: a step sees its own chunk and some chunks before it, and a key bears its own position.
So of all that came before a piece of whole chunks, attention needs the keys and values that are still seen, and the
piece gives what it gives within the whole clip (docs/decisions/0016).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..config import AudioConfig
from ..graph import GraphBuilder

__all__ = ["TO_THE_END", "AudioPiece"]

NO_CHUNK = 1 << 30
"""A chunk longer than any clip, for full attention."""
TO_THE_END = 1 << 62


class AudioPiece:
    """The piece of a clip that a graph is fed. Adds the inputs ``begin`` (int64, a scalar: its first step) and ``last``
    (bool, a scalar: the clip ends with it).

    ``chunk_size`` and ``left_chunks`` are named constants, so that a comparison can switch the mask off (chunk_size 0).

    Args:
        steps: how many steps it has, an int64 scalar.
    """

    def __init__(self, g: GraphBuilder, config: AudioConfig, steps: str) -> None:
        self._g, zero, one = g, g.constant(0), g.constant(1)
        begin, self._last = g.input("begin", "int64", []), g.input("last", "bool", [])
        self._first = g.op("Equal", begin, zero)
        self._chunk = self._left = g.constant(NO_CHUNK)
        self._masked = config.chunk_size > 0
        if self._masked:
            chunk = g.constant(config.chunk_size, name="chunk_size")
            left = g.constant(config.left_chunks, name="left_chunks")
            self._chunk = g.op("Where", g.op("Greater", chunk, zero), chunk, self._chunk)
            self._left = g.op("Where", g.op("Less", left, zero), self._left, left)
        window = g.op("Mul", self._left, self._chunk)
        past, end = g.op("Min", begin, window), g.op("Add", begin, steps)
        self.steps = g.op("Range", begin, end, one)
        """Indices of its steps: int64 [steps]"""
        self._seen = g.op("Range", g.op("Sub", begin, past), end, one)
        kept = g.op("Where", self._last, zero, window)
        first_kept = g.op("Max", g.op("Sub", g.op("Add", past, steps), kept), zero)
        self._first_kept = g.op("Unsqueeze", first_kept, zero)

    def visible(self) -> str | None:
        """Whether a step may see another: bool [steps, past + steps]; None where all see all.

        A step sees its own chunk and ``left_chunks`` before it, all of them when that is negative.
        """
        if not self._masked:
            return None
        g, column = self._g, self._g.constant([1])
        index = g.op("Div", self.steps, self._chunk)
        first = g.op("Mul", g.op("Sub", index, self._left), self._chunk)
        end = g.op("Mul", g.op("Add", index, g.constant(1)), self._chunk)
        return g.op(
            "And",
            g.op("GreaterOrEqual", self._seen, g.op("Unsqueeze", first, column)),
            g.op("Less", self._seen, g.op("Unsqueeze", end, column)),
        )

    def with_past(self, x: str, name: str, axes: Sequence[int]) -> str:
        """[1, steps, *axes] → [1, past + steps, *axes]; what the next piece sees of it is handed out, nothing
        after the last piece."""
        g = self._g
        past = g.inner(g.input(f"past.{name}", "float32", [1, "past", *axes]))
        joined = g.op("Concat", past, x, axis=1)
        kept = g.op("Slice", joined, self._first_kept, g.constant([TO_THE_END]), g.constant([1]))
        g.result(kept, f"present.{name}", [1, "kept", *axes])
        return joined

    def if_first(self, count: int) -> str:
        """``count`` for the first piece of a clip, 0 for the others: int64 [1]."""
        return self._g.op("Where", self._first, self._g.constant([count]), self._g.constant([0]))

    def if_last(self, count: int) -> str:
        """``count`` for the last piece of a clip, 0 for the others: int64 [1]."""
        return self._g.op("Where", self._last, self._g.constant([count]), self._g.constant([0]))
