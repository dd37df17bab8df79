"""Put the rows of pictures and sounds where a prompt has their marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .prompt import AUDIO, IMAGE

__all__ = ["splice"]


def splice(
    ids: Sequence[int],
    rows_of: Callable[[list[int]], NDArray[np.float32]],
    pictures: Sequence[NDArray[np.float32]],
    clips: Sequence[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Put rows in the place of ids: float32 [positions, hidden].

    Args:
        ids: token ids with a marker for each tile or frame and for each clip.
        rows_of: embedding rows of token ids.
        pictures, clips: what the markers stand for, in order, float32 [n, hidden] each.

    Raises:
        ValueError: markers and media do not match in number (a bug of the caller).
    """
    media = {int(IMAGE): iter(pictures), int(AUDIO): iter(clips)}
    blocks: list[NDArray[np.float32]] = []
    start = 0
    for i, token in enumerate([*ids, int(IMAGE)]):
        if token not in media:
            continue
        if i > start:
            blocks.append(rows_of(list(ids[start:i])))
        start = i + 1
        if i < len(ids):
            block = next(media[token], None)
            if block is None:
                raise ValueError("more markers than media")
            blocks.append(block)
    if any(next(rest, None) is not None for rest in media.values()):
        raise ValueError("more media than markers")
    return np.concatenate(blocks)
