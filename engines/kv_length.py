"""How much of a KV cache is valid: the part of a cache that is the same wherever its memory lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .errors import ContextOverflow

__all__ = ["PAST", "PRESENT", "KvLength", "prefix_tokens", "present"]

PAST, PRESENT = "past_key_values.", "present."


def present(past: str) -> str:
    """The output that a cache input grows into."""
    return PRESENT + past[len(PAST) :]


class KvLength:
    """Counts the positions of a cache with room for ``capacity_tokens`` of them."""

    def __init__(self, capacity_tokens: int) -> None:
        if capacity_tokens < 1:
            raise ValueError(f"a cache for {capacity_tokens} tokens")
        self.capacity_tokens = capacity_tokens
        self._length = 0

    @property
    def length_tokens(self) -> int:
        return self._length

    def rewind(self, length_tokens: int) -> None:
        if not 0 <= length_tokens <= self._length:
            raise ValueError(f"cannot rewind a cache of {self._length} tokens to {length_tokens}")
        self._length = length_tokens

    def grow(self, tokens: int) -> None:
        """Count ``tokens`` positions that a graph has written."""
        self._length += tokens

    def check_room(self, tokens: int) -> None:
        """Raise ContextOverflow if that many more positions do not fit."""
        if self._length + tokens > self.capacity_tokens:
            raise ContextOverflow(
                f"{tokens} more tokens do not fit: {self._length} of {self.capacity_tokens} are taken.",
                why="The KV cache has a fixed capacity.",
                fix="Ask for less, or open the conversation with a larger context.",
            )


def prefix_tokens(prefix: Mapping[str, tuple[int, ...]], pasts: Iterable[str], capacity_tokens: int) -> int:
    """Positions of what a prefill graph has handed out, by its shapes, for the cache inputs ``pasts``.

    Raises:
        ValueError: layers are missing, or are not those of the cache.
        ContextOverflow: the prefix is longer than the capacity.
    """
    requested = {present(name) for name in pasts}
    if set(prefix) != requested:
        raise ValueError(f"a prefix for {sorted(prefix)}, expected {sorted(requested)}")
    tokens = prefix[min(requested)][2]
    if tokens > capacity_tokens:
        raise ContextOverflow(
            f"A prefix of {tokens} tokens does not fit into a cache of {capacity_tokens}.",
            why="The KV cache has a fixed capacity.",
            fix="Give a shorter sentence.",
        )
    return tokens
