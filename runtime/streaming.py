"""What every streaming stage does: items in, what can be given by now out, and an end."""

from __future__ import annotations

from typing import Protocol, TypeVar

__all__ = ["StreamingStage"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class StreamingStage(Protocol[In, Out]):
    """A stage of a stream. However its input is cut, what it gives, joined, is what it gives for the whole.

    Nothing yet is an empty value, not an exception. A stage owns what it remembers, and shares nothing but weights.
    """

    def step(self, item: In, /) -> Out:
        """Take the next item; what can be given by now, which may be nothing."""
        ...

    def flush(self) -> Out:
        """The stream has ended: what was held back. Afterwards the stage is as new."""
        ...

    def reset(self) -> None:
        """As new, whatever was taken."""
        ...
