"""From the ids of a prompt and the rows of its pictures and sounds to the segments that a KV cache is filled with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..text.prompt import AUDIO, IMAGE

__all__ = ["Rows", "Segment", "SegmentKind", "common_prefix", "cut", "rows_of", "segments", "splice"]

Rows: TypeAlias = NDArray[np.float32]
"""float32 [positions, hidden]"""
SegmentKind = Literal["text", "image", "sound", "reply"]


@dataclass(frozen=True)
class Segment:
    """A stretch of a conversation that is of one kind."""

    kind: SegmentKind
    content: Sequence[int] | Rows
    """Ids of text and replies, rows of pictures and sounds: what it takes to read it again."""

    @property
    def tokens(self) -> int:
        """Positions of the KV cache that it takes."""
        return len(self.content)

    def first(self, tokens: int) -> Segment:
        """The segment cut after ``tokens`` positions."""
        return Segment(self.kind, self.content[:tokens])


def segments(ids: Sequence[int], pictures: Sequence[Rows], clips: Sequence[Rows]) -> list[Segment]:
    """Cut a prompt at its marks.

    Args:
        ids: token ids with a marker for each tile or frame and for each clip.
        pictures, clips: what the markers stand for, in order, float32 [n, hidden] each.

    Raises:
        ValueError: markers and media do not match in number (a bug of the caller).
    """
    media: dict[int, tuple[SegmentKind, Iterable[Rows]]] = {
        int(IMAGE): ("image", iter(pictures)),
        int(AUDIO): ("sound", iter(clips)),
    }
    found: list[Segment] = []
    start = 0
    for i, token in enumerate(ids):
        if token not in media:
            continue
        if i > start:
            found.append(Segment("text", list(ids[start:i])))
        start = i + 1
        kind, rest = media[token]
        rows = next(iter(rest), None)
        if rows is None:
            raise ValueError("more markers than media")
        found.append(Segment(kind, rows))
    if any(next(iter(rest), None) is not None for _, rest in media.values()):
        raise ValueError("more media than markers")
    if len(ids) > start:
        found.append(Segment("text", list(ids[start:])))
    return found


def cut(parts: Iterable[Segment], begin: int, end: int) -> list[Segment]:
    """What lies from position ``begin`` to ``end`` of ``parts``; segments at its ends are cut."""
    found, at = [], 0
    for part in parts:
        low, high = max(begin - at, 0), min(end - at, part.tokens)
        if low < high:
            found.append(part if high - low == part.tokens else Segment(part.kind, part.content[low:high]))
        at += part.tokens
    return found


def common_prefix(held: Iterable[Segment], requested: Iterable[Segment]) -> int:
    """Positions from the first on in which both are the same: the same ids, or the very same rows in memory."""
    both = 0
    held, requested = iter(held), iter(requested)
    one, other = next(held, None), next(requested, None)
    i = j = 0
    while one is not None and other is not None:
        count = min(one.tokens - i, other.tokens - j)
        same = _same(one.content[i : i + count], other.content[j : j + count])
        both += same
        if same < count:
            break
        i, j = i + count, j + count
        if i == one.tokens:
            one, i = next(held, None), 0
        if j == other.tokens:
            other, j = next(requested, None), 0
    return both


def _same(one: Sequence[int] | Rows, other: Sequence[int] | Rows) -> int:
    """Leading positions of two stretches of equal length in which they agree."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        # what is held keeps its memory, so that equal addresses are the same rows; equal rows elsewhere are read again
        same = one.ctypes.data == other.ctypes.data and one.strides == other.strides
        return len(one) if same else 0
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return 0
    one, other = list(one), list(other)
    return len(one) if one == other else next(i for i, (a, b) in enumerate(zip(one, other)) if a != b)


def rows_of(parts: Iterable[Segment], embed: Callable[[list[int]], Rows]) -> Rows:
    """All of ``parts`` as rows of the language model; ``embed`` gives the embedding rows of token ids."""
    return np.concatenate(
        [part.content if isinstance(part.content, np.ndarray) else embed(list(part.content)) for part in parts]
    )


def splice(
    ids: Sequence[int], embed: Callable[[list[int]], Rows], pictures: Sequence[Rows], clips: Sequence[Rows]
) -> Rows:
    """Put rows in the place of marks: :func:`segments` and :func:`rows_of` in one."""
    return rows_of(segments(ids, pictures, clips), embed)
