"""From the ids of a prompt and the rows of its pictures and sounds to the segments that a KV cache is filled with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..text.prompt import AUDIO, IMAGE

__all__ = ["Rows", "Segment", "SegmentKind", "rows_of", "segments", "splice"]

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
