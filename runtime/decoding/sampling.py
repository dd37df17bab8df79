"""One row of logits to one token: the choice, and the two repetition penalties that go before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import SpeechFacts
from vita_edge.engines.errors import Misuse, VitaEdgeError

from .top_k_logits import Logits, Row, ShortList, penalise

__all__ = ["Logits", "Sampler", "make_sampler", "make_speech_sampler", "repetition_penalty", "speech_penalty"]

Sampler: TypeAlias = Callable[[Logits], int]
"""Logits in, token id out. The logits are not changed."""

PART = 256
"""Logits that are looked at together when the best few of many are wanted."""


def make_sampler(
    top_k: int = 1, temperature: float = 1.0, seed: int | None = None, banned: Sequence[int] = ()
) -> Sampler:
    """Build a sampler once; the same seed and logits give the same tokens.

    Args:
        top_k: tokens to draw from, by softmax over them; 1 is greedy, and 0 draws from all of them.
        temperature: divides the logits before the softmax; 0 is greedy.
        seed: of the draws; None draws differently in every process.
        banned: ids that are never chosen.

    Greedy takes the first of equal logits. A sampler that draws keeps a random state, so every conversation wants its
    own.

    Raises:
        Misuse: an option is negative, or the temperature is not a number.

    The sampler itself raises VitaEdgeError when the best logit is not finite, which is how NaN shows.
    """
    if top_k < 0 or not 0 <= temperature < np.inf:
        raise Misuse(
            f"Cannot sample with top_k {top_k} and temperature {temperature}.",
            why="Both must be 0 or more, and finite.",
            fix="For the most likely token every time use top_k 1.",
        )
    out = np.asarray(banned, dtype=np.intp)
    if top_k == 1 or temperature == 0:
        return _sampler(_greedy, out, 1)
    random = np.random.default_rng(seed)
    return _sampler(lambda row: _draw(row, top_k, temperature, random), out, top_k)


def make_speech_sampler(facts: SpeechFacts, top_k: int = 1, seed: int | None = None) -> Sampler:
    """The sampler of the speech decoder: float32 [codes + 4] to a code or ``facts.end``.

    bos, sos and padding are banned: the reference can draw them, and then its codec fails. Its demo draws from 2.
    """
    padding = facts.end + 1
    return make_sampler(top_k, seed=seed, banned=(facts.bos, facts.sos, padding))


def repetition_penalty(logits: Logits, generated: Sequence[int], factor: float) -> None:
    """Make ``generated`` ids less likely, in place, by the rule of Hugging Face (Keskar et al. 2019, arXiv:1909.05858).

    A positive logit is divided by ``factor`` and a negative one multiplied, once however often the id occurs. The
    prompt does not count: the reference hands it over as embeddings, where the rule cannot see it.
    """
    if isinstance(logits, ShortList):
        logits.penalise(generated, factor)
    elif factor != 1 and generated:
        penalise(logits, np.unique(np.asarray(generated, dtype=np.intp)), factor)


def speech_penalty(logits: Row, history: Sequence[int], window: int, factor: float) -> None:
    """The speech decoder's own penalty (spec 8.3), in place; a ``window`` of 0 or less is off, as in the demo.

    For each of the last ``window`` entries of ``history``, which begins with sos, its logit is divided by ``factor``:
    once per occurrence and whatever its sign, so that a negative logit becomes *more* likely. As the reference does.
    """
    if window > 0 and factor != 1:
        np.divide.at(logits, np.asarray(history[-window:], dtype=np.intp), np.float32(factor))


def _sampler(pick: Callable[[Row], int], banned: NDArray[np.intp], best: int) -> Sampler:
    """``pick`` without the ``banned`` ids; it looks at the ``best`` largest logits only, or at all of them if 0."""

    def sample(logits: Logits) -> int:
        if isinstance(logits, ShortList):
            values = logits.without(banned)
            if logits.decides(values, best):
                return int(logits.ids[pick(values)])
            logits = logits.row()
        return pick(_masked(logits, banned))

    return sample


def _masked(logits: Row, banned: NDArray[np.intp]) -> Row:
    if banned.size:
        logits = logits.copy()
        logits[banned] = -np.inf
    return logits


def _greedy(logits: Row) -> int:
    token = int(np.argmax(logits))  # argmax takes NaN for the largest, so that looking at the best finds any NaN
    _check(logits[token])
    return token


def _draw(logits: Row, top_k: int, temperature: float, random: np.random.Generator) -> int:
    ids = _candidates(logits, top_k)
    values = logits if ids is None else logits[ids]
    cut = max(len(values) - top_k, 0) if top_k else 0
    best = np.partition(values, cut)[cut:]  # NaN is sorted behind every number
    _check(best.max())
    among = np.flatnonzero(values >= best[0])
    order = np.argsort(-values[among], kind="stable")[: len(best)]  # of equal logits the first, on every machine
    chosen = among[order] if ids is None else ids[among[order]]
    # Scaling the best to 0 before the division keeps a tiny temperature from overflowing.
    weights = np.exp((logits[chosen].astype(np.float64) - float(logits[chosen[0]])) / temperature)
    edges = np.cumsum(weights)
    return int(chosen[np.searchsorted(edges, random.random() * edges[-1], side="right")])


def _candidates(logits: Row, top_k: int) -> NDArray[np.intp] | None:
    """Ids, in order, among which the ``top_k`` best are; None when that would spare nothing.

    Only parts with a large best logit can hold one of them, so that the logits of a large vocabulary are looked at once
    and neither copied nor sorted. A NaN counts as the largest, and so is never left out.
    """
    parts = len(logits) // PART
    if not 0 < top_k * 4 < parts:
        return None
    largest = logits[: parts * PART].reshape(parts, PART).max(axis=1)
    bound = np.partition(largest, parts - top_k)[parts - top_k]
    kept = np.flatnonzero(~(largest < bound))
    inside = (kept[:, None] * PART + np.arange(PART)).ravel()
    return np.concatenate([inside, np.arange(parts * PART, len(logits))])


def _check(best: np.float32) -> None:
    if not np.isfinite(best):
        raise VitaEdgeError(
            f"The model's best logit is {best}.",
            why="Its weights are damaged, or numbers became too large for a half-precision graph.",
            fix="Run `vita-edge inspect BUNDLE --check`; if all is well, export again with a wider precision.",
        )
