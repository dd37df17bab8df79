"""The largest few of a row of logits, when the row itself lies on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.tensors import Array

__all__ = ["Logits", "Row", "TopKLogits", "logits_of", "row_of"]

Row: TypeAlias = NDArray[np.float32]
"""float32 [vocab]"""

TOP_IDS, TOP_VALUES = "top_ids", "top_values"
"""Outputs [1, 1, k] of a decoder that picks its largest logits itself."""


class TopKLogits:
    """The k largest logits, and the whole row for those who cannot do without.

    No logit outside is above ``bound``. So whatever stays above it, after logits were lowered, is above everything
    outside, and the choice is the one that the whole row gives. Where that cannot be told, the row is fetched. Valid
    until the next call of the session, like the row.

    Args:
        ids: int64 [k], values: float32 [k], in any order.
        whole: fetches the row, float32 [vocab].
    """

    def __init__(self, ids: Array, values: Array, whole: Callable[[], Array]) -> None:
        order = np.argsort(ids)
        self.ids: NDArray[np.int64] = ids[order].astype(np.int64)
        """Ascending, so that of equal logits the first is the one that a row would give."""
        self.values: Row = values[order].astype(np.float32)
        self.bound = float(self.values.min(initial=np.inf))
        self._whole = whole

    def row(self) -> Row:
        """The whole row; the caller's own."""
        return np.array(self._whole(), np.float32)


Logits: TypeAlias = "Row | TopKLogits"
"""What follows a position: float32 [vocab], or the largest of it."""


def logits_of(outputs: Mapping[str, Array]) -> Logits:
    """The logits of a decoder's call: what it picked itself, or the whole row. Valid until its next call."""
    if TOP_IDS not in outputs:
        return outputs["logits"][0, 0]
    ids, values = outputs[TOP_IDS][0, 0], outputs[TOP_VALUES][0, 0]
    return TopKLogits(ids, values, lambda: outputs["logits"][0, 0])


def row_of(logits: Logits) -> Row:
    """The whole row as an array of the caller's own."""
    return logits.row() if isinstance(logits, TopKLogits) else logits.copy()
