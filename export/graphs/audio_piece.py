"""How the audio graph hears a clip, whole or piece by piece: where its steps lie, what they see, what is handed on.

The encoder is causal by chunks: a step sees its own chunk and some chunks before it, and a key bears its own position.
So of all that came before a piece of whole chunks, attention needs the keys and values that are still seen, and the
piece gives what it gives within the whole clip (docs/decisions/0016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..config import AudioConfig
from ..graph import GraphBuilder

__all__ = ["AudioPiece", "Heard", "WholeClip"]

NO_CHUNK = 1 << 30
"""A chunk longer than any clip, for full attention."""
TO_THE_END = 1 << 62


class Heard(Protocol):
    """What a graph is fed of a clip."""

    steps: str
    """Indices of its steps: int64 [steps]"""

    def visible(self) -> str | None:
        """Whether a step may see another: bool [steps, past + steps]; None where all see all.

        A step sees its own chunk and ``left_chunks`` before it, all of them when that is negative.
        """
        ...

    def with_past(self, x: str, name: str, axes: Sequence[int]) -> str:
        """[1, steps, *axes] → [1, past + steps, *axes]"""
        ...

    def with_carried(self, x: str, width: int) -> str:
        """[1, steps, width] after the rows that the adapter had left over."""
        ...

    def hand_on(self, x: str, used: str, width: int) -> None:
        """Of what :meth:`with_carried` gave, hand out the rows behind the first ``used``."""
        ...

    def if_first(self, count: int) -> str:
        """``count`` where the clip begins, else 0: int64 [1]."""
        ...

    def if_last(self, count: int) -> str:
        """``count`` where the clip ends, else 0: int64 [1]."""
        ...


class _Chunks:
    """The mask. ``chunk_size`` and ``left_chunks`` are named constants, so that a comparison can switch it off
    (chunk_size 0)."""

    def __init__(self, g: GraphBuilder, config: AudioConfig) -> None:
        self._g, zero = g, g.constant(0)
        self._size = self._left = g.constant(NO_CHUNK)
        self._masked = config.chunk_size > 0
        if self._masked:
            size = g.constant(config.chunk_size, name="chunk_size")
            left = g.constant(config.left_chunks, name="left_chunks")
            self._size = g.op("Where", g.op("Greater", size, zero), size, self._size)
            self._left = g.op("Where", g.op("Less", left, zero), self._left, left)

    def window(self) -> str:
        """Steps before its own chunk that a step sees, a scalar."""
        return str(self._g.op("Mul", self._left, self._size))

    def visible(self, steps: str, seen: str) -> str | None:
        if not self._masked:
            return None
        g, column = self._g, self._g.constant([1])
        index = g.op("Div", steps, self._size)
        first = g.op("Mul", g.op("Sub", index, self._left), self._size)
        end = g.op("Mul", g.op("Add", index, g.constant(1)), self._size)
        return str(
            g.op(
                "And",
                g.op("GreaterOrEqual", seen, g.op("Unsqueeze", first, column)),
                g.op("Less", seen, g.op("Unsqueeze", end, column)),
            )
        )


class WholeClip(Heard):
    """A clip at once, for backends that cannot make the length of a tensor hang on a flag.

    Args:
        steps: how many steps it has, an int64 scalar.
    """

    def __init__(self, g: GraphBuilder, config: AudioConfig, steps: str) -> None:
        self._g, self._chunks = g, _Chunks(g, config)
        self.steps = g.op("Range", g.constant(0), steps, g.constant(1))

    def visible(self) -> str | None:
        return self._chunks.visible(self.steps, self.steps)

    def with_past(self, x: str, name: str, axes: Sequence[int]) -> str:
        return x

    def with_carried(self, x: str, width: int) -> str:
        return x

    def hand_on(self, x: str, used: str, width: int) -> None:
        pass

    def if_first(self, count: int) -> str:
        return self._g.constant([count])

    def if_last(self, count: int) -> str:
        return self._g.constant([count])


class AudioPiece(Heard):
    """The piece of a clip that a graph is fed. Adds the inputs ``begin`` (int64, a scalar: its first step) and ``last``
    (bool, a scalar: the clip ends with it), and the past as inputs and outputs.

    Args:
        steps: how many steps it has, an int64 scalar.
    """

    def __init__(self, g: GraphBuilder, config: AudioConfig, steps: str) -> None:
        self._g, zero, one = g, g.constant(0), g.constant(1)
        begin, self._last = g.input("begin", "int64", []), g.input("last", "bool", [])
        self._first = g.op("Equal", begin, zero)
        self._chunks = _Chunks(g, config)
        window = self._chunks.window()
        past, end = g.op("Min", begin, window), g.op("Add", begin, steps)
        self.steps = g.op("Range", begin, end, one)
        self._seen = g.op("Range", g.op("Sub", begin, past), end, one)
        kept = g.op("Where", self._last, zero, window)
        first_kept = g.op("Max", g.op("Sub", g.op("Add", past, steps), kept), zero)
        self._first_kept = g.op("Unsqueeze", first_kept, zero)

    def visible(self) -> str | None:
        return self._chunks.visible(self.steps, self._seen)

    def with_past(self, x: str, name: str, axes: Sequence[int]) -> str:
        """What the next piece sees of it is handed out, nothing after the last piece."""
        g = self._g
        past = g.inner(g.input(f"past.{name}", "float32", [1, "past", *axes]))
        joined = g.op("Concat", past, x, axis=1)
        kept = g.op("Slice", joined, self._first_kept, g.constant([TO_THE_END]), g.constant([1]))
        g.result(kept, f"present.{name}", [1, "kept", *axes])
        return str(joined)

    def with_carried(self, x: str, width: int) -> str:
        g = self._g
        carried = g.inner(g.input("past.encoded", "float32", [1, "carried", width]))
        return str(g.op("Concat", carried, x, axis=1))

    def hand_on(self, x: str, used: str, width: int) -> None:
        g = self._g
        left = g.op("Slice", x, used, g.constant([TO_THE_END]), g.constant([1]))
        g.result(left, "present.encoded", [1, "left", width])

    def if_first(self, count: int) -> str:
        return str(self._g.op("Where", self._first, self._g.constant([count]), self._g.constant([0])))

    def if_last(self, count: int) -> str:
        return str(self._g.op("Where", self._last, self._g.constant([count]), self._g.constant([0])))
