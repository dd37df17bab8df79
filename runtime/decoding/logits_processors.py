"""Logits processors: change the logits in place before a token is chosen from them.

A processor is any callable ``(token_ids, logits) -> None``: the ids that were decoded so far, and float32 [vocab] to
change. A grammar, forced tokens of a tool call, or a bias are processors. One that has the method ``on_top`` too works
on the largest logits alone where that suffices (:class:`TopProcessor`); for any other the whole row is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .top_k_logits import Row

__all__ = ["AllowedTokens", "BannedTokens", "LogitsProcessor", "RepetitionPenalty", "TopProcessor", "speech_penalty"]

LogitsProcessor: TypeAlias = Callable[[Sequence[int], Row], None]
"""Token ids that were decoded so far, logits float32 [vocab] to change in place."""


@runtime_checkable
class TopProcessor(Protocol):
    """A processor that can only lower logits, so that those outside the largest stay below them."""

    def __call__(self, token_ids: Sequence[int], logits: Row, /) -> None:
        """Change the whole row, in place."""
        ...

    def on_top(self, token_ids: Sequence[int], ids: NDArray[np.int64], values: Row) -> bool:
        """Change ``values`` of ``ids`` [k], in place, exactly as in the whole row; False if that needs the row."""
        ...


class RepetitionPenalty:
    """Makes ids that were decoded less likely, by the rule of Hugging Face (Keskar et al. 2019, arXiv:1909.05858).

    A positive logit is divided by ``factor`` and a negative one multiplied, once however often the id occurs. The
    prompt does not count: the reference hands it over as embeddings, where the rule cannot see it.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, token_ids: Sequence[int], logits: Row) -> None:
        """Change the whole row, in place."""
        self._scale(logits, np.unique(np.asarray(token_ids, np.intp)))

    def on_top(self, token_ids: Sequence[int], ids: NDArray[np.int64], values: Row) -> bool:
        """See :class:`TopProcessor`. A factor below 1 is a reward, which may raise what is outside."""
        if self.factor < 1:
            return False
        self._scale(values, np.flatnonzero(np.isin(ids, np.asarray(token_ids, np.int64))))
        return True

    def _scale(self, values: Row, at: NDArray[np.intp]) -> None:
        chosen, factor = values[at], np.float32(self.factor)
        values[at] = np.where(chosen > 0, chosen / factor, chosen * factor)


class BannedTokens:
    """Ids that are never chosen."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = np.asarray(ids, np.intp)

    def __call__(self, token_ids: Sequence[int], logits: Row) -> None:
        """Change the whole row, in place."""
        logits[self._ids] = -np.inf

    def on_top(self, token_ids: Sequence[int], ids: NDArray[np.int64], values: Row) -> bool:
        """See :class:`TopProcessor`."""
        values[np.isin(ids, self._ids)] = -np.inf
        return True


class AllowedTokens:
    """Only the ids that a grammar allows at this point can be chosen.

    Args:
        allowed: the ids that may follow the ids decoded so far; None allows all. One id forces it.
    """

    def __init__(self, allowed: Callable[[Sequence[int]], Sequence[int] | None]) -> None:
        self._allowed = allowed

    def __call__(self, token_ids: Sequence[int], logits: Row) -> None:
        """Change the whole row, in place."""
        allowed = self._allowed(token_ids)
        if allowed is not None:
            at = np.asarray(allowed, np.intp)
            values = logits[at]
            logits[:] = -np.inf
            logits[at] = values

    def on_top(self, token_ids: Sequence[int], ids: NDArray[np.int64], values: Row) -> bool:
        """See :class:`TopProcessor`."""
        allowed = self._allowed(token_ids)
        if allowed is not None:
            values[~np.isin(ids, np.asarray(allowed, np.int64))] = -np.inf
        return True


def speech_penalty(logits: Row, history: Sequence[int], window: int, factor: float) -> None:
    """The speech decoder's own penalty (spec 8.3), in place; a ``window`` of 0 or less is off, as in the demo.

    For each of the last ``window`` entries of ``history``, which begins with sos, its logit is divided by ``factor``:
    once per occurrence and whatever its sign, so that a negative logit becomes *more* likely. As the reference does.
    """
    if window > 0 and factor != 1:
        np.divide.at(logits, np.asarray(history[-window:], dtype=np.intp), np.float32(factor))
