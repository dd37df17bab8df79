"""How the audio graph hears a clip, whole or piece by piece: where its steps lie, what they see, what is handed on.

The encoder is causal by chunks: a step sees its own chunk and some chunks before it, and a key bears its own position.
So of all that came before a piece of whole chunks, attention needs the keys and values that are still seen, and the
piece gives what it gives within the whole clip (docs/decisions/0016).
"""

from __future__ import annotations

from typing import Literal

from ..checkpoint.config import AudioConfig
from .graph_builder import GraphBuilder

__all__ = ["AudioPiece"]

NO_CHUNK = 1 << 30
"""A chunk longer than any clip, for full attention."""
TO_THE_END = 1 << 62


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


class AudioPiece:
    """The piece of a clip that a graph is fed.

    Adds the inputs ``begin`` (int64, a scalar: its first step), ``opening`` and ``ending`` (bool [0 or 1]: the clip
    begins and ends with it), and the past as inputs and outputs. What the lengths of tensors hang on are lengths
    themselves, even those two flags: TensorRT takes no value from the device as a shape.

    Args:
        steps: how many steps it has, an int64 scalar.
    """

    steps: str
    """Indices of its steps: int64 [steps]"""

    def __init__(self, g: GraphBuilder, config: AudioConfig, steps: str) -> None:
        self._g, self._chunks = g, _Chunks(g, config)
        begin = g.input("begin", "int64", [])
        self._opening, self._ending = (
            g.op("Shape", g.input(flag, "bool", [flag]), start=0, end=1) for flag in ("opening", "ending")
        )
        heads, width = config.heads, config.hidden_size
        axes = {"key": [heads, 2 * width // heads], "value": [width]}
        self._past = [
            {part: g.input(f"past.{i}.{part}", "float32", [1, "past", *axes[part]]) for part in axes}
            for i in range(config.layers)
        ]
        self._carried = g.input("past.encoded", "float32", [1, "carried", width])
        self._axes, self._width = axes, width

        past = g.length(self._past[0]["key"], 1)
        seen = g.op("Add", past, steps)
        self.steps = self._indices(begin, steps)
        self._seen = self._indices(g.op("Sub", begin, past), seen)
        going_on = g.op("Sub", g.constant([1]), self._ending)
        retained = g.op("Mul", going_on, self._chunks.window())
        self._first_retained = g.op("Max", g.op("Sub", seen, retained), g.constant([0]))

    def _indices(self, first: str, count: str) -> str:
        g = self._g
        return str(g.op("Add", first, g.op("Range", g.constant(0), count, g.constant(1))))

    def visible(self) -> str | None:
        """Whether a step may see another: bool [steps, past + steps]; None where all see all.

        A step sees its own chunk and ``left_chunks`` before it, all of them when that is negative.
        """
        return self._chunks.visible(self.steps, self._seen)

    def with_past(self, x: str, layer: int, part: Literal["key", "value"]) -> str:
        """[1, steps, ...] → [1, past + steps, ...]. What the next piece sees of it is handed out, nothing after the
        last piece."""
        g = self._g
        joined = g.op("Concat", g.inner(self._past[layer][part]), x, axis=1)
        retained = g.op("Slice", joined, self._first_retained, g.constant([TO_THE_END]), g.constant([1]))
        g.result(retained, f"present.{layer}.{part}", [1, "kept", *self._axes[part]])
        return str(joined)

    def with_carried(self, x: str) -> str:
        """[1, steps, width] after the rows that the adapter had left over."""
        return str(self._g.op("Concat", self._g.inner(self._carried), x, axis=1))

    def hand_on(self, x: str, used: str) -> None:
        """Of what :meth:`with_carried` gave, hand out the rows behind the first ``used``."""
        g = self._g
        left = g.op("Slice", x, used, g.constant([TO_THE_END]), g.constant([1]))
        g.result(left, "present.encoded", [1, "left", self._width])

    def if_first(self, count: int) -> str:
        """``count`` where the clip begins, else 0: int64 [1]."""
        return str(self._g.op("Mul", self._opening, self._g.constant([count])))

    def if_last(self, count: int) -> str:
        """``count`` where the clip ends, else 0: int64 [1]."""
        return str(self._g.op("Mul", self._ending, self._g.constant([count])))
