"""The best few of a row of logits, when the row itself lies on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.tensors import Array

__all__ = ["Logits", "Row", "ShortList", "logits_of", "penalise", "row_of"]

Row: TypeAlias = NDArray[np.float32]
"""float32 [vocab]"""

TOP_IDS, TOP_VALUES = "top_ids", "top_values"
"""Outputs [1, 1, k] of a decoder that picks its best logits itself."""


class ShortList:
    """The k best logits, and the whole row for those who cannot do without.

    What is done to logits before a token is chosen (penalties, bans) only lowers them. So whatever is better than the
    worst of the list after that is better than everything outside, and the choice is the one that the whole row gives.
    Where that cannot be told, the row is fetched. Valid until the next call of the session, like the row.

    Args:
        ids: int64 [k], values: float32 [k], in any order.
        whole: fetches the row, float32 [vocab].
    """

    def __init__(self, ids: Array, values: Array, whole: Callable[[], Array]) -> None:
        order = np.argsort(ids)
        self.ids = ids[order].astype(np.int64)
        """Ascending, so that of equal logits the first is the one that a row would give."""
        self.values = values[order].astype(np.float32)
        self._whole = whole
        self._outside = float(self.values.min(initial=np.inf))
        """No logit that is not in the list is above this."""
        self._penalties: list[tuple[tuple[int, ...], float]] = []

    def penalise(self, generated: Sequence[int], factor: float) -> None:
        """See :func:`~vita_edge.runtime.decoding.sampling.repetition_penalty`."""
        if factor == 1 or not generated:
            return
        self._penalties.append((tuple(generated), factor))
        penalise(self.values, np.flatnonzero(np.isin(self.ids, generated)), factor)
        if factor < 1:  # a reward: what is outside may rise
            self._outside = np.inf

    def without(self, banned: NDArray[np.intp]) -> Row:
        """The values of the list, those of ``banned`` ids out of reach."""
        return np.where(np.isin(self.ids, banned), np.float32(-np.inf), self.values)

    def decides(self, values: Row, best: int) -> bool:
        """Whether the ``best`` largest of ``values``, which :meth:`without` gave, are those of the whole row."""
        return 0 < best <= len(values) and bool(np.partition(values, -best)[-best] > self._outside)

    def row(self) -> Row:
        """The whole row, penalties applied; the caller's own."""
        row = np.array(self._whole(), np.float32)
        for generated, factor in self._penalties:
            penalise(row, np.unique(np.asarray(generated, np.intp)), factor)
        return row


Logits: TypeAlias = "Row | ShortList"
"""What follows a position: float32 [vocab], or the best of it."""


def penalise(row: Row, at: NDArray[np.intp], factor: float) -> None:
    """Divide the positive ones of ``row[at]`` by ``factor`` and multiply the others, in place."""
    chosen = row[at]
    row[at] = np.where(chosen > 0, chosen / np.float32(factor), chosen * np.float32(factor))


def logits_of(outputs: Mapping[str, Array]) -> Logits:
    """The logits of a decoder's call: what it picked itself, or the whole row. Valid until its next call."""
    if TOP_IDS not in outputs:
        return outputs["logits"][0, 0]
    ids, values = outputs[TOP_IDS][0, 0], outputs[TOP_VALUES][0, 0]
    return ShortList(ids, values, lambda: outputs["logits"][0, 0])


def row_of(logits: Logits) -> Row:
    """The whole row as an array of the caller's own."""
    return logits.row() if isinstance(logits, ShortList) else logits.copy()
