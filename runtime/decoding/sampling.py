"""One row of logits to one token: processors change the logits, then the most likely token is taken or one drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import LlmFacts, SpeechFacts
from vita_edge.engines.errors import VitaEdgeError

from .logits_processors import BannedTokens, LogitsProcessor, RepetitionPenalty, TopProcessor
from .sampling_options import SamplingOptions
from .top_k_logits import Logits, Row, TopKLogits

__all__ = ["Logits", "Sampler", "TokenSampler", "make_sampler", "make_speech_sampler", "speech_sampler", "text_sampler"]

Sampler: TypeAlias = Callable[[Logits], int]
"""Logits in, token id out. The logits are not changed."""

Pick: TypeAlias = Callable[[Row, float], "int | None"]
"""Values and a bound to the place of the chosen value; None if a value outside, up to the bound, might be chosen."""

PART = 256
"""Logits that are looked at together when the largest few of many are required."""


class TokenSampler:
    """Applies its processors in their order, and picks a token.

    From the largest logits alone (:class:`~.top_k_logits.TopKLogits`) it gives the token that the whole row would give,
    and fetches the row where they cannot tell. A sampler that draws holds a random state: each response has its own.
    """

    def __init__(self, pick: Pick, processors: Sequence[LogitsProcessor] = ()) -> None:
        self._pick, self._processors = pick, tuple(processors)

    def __call__(self, logits: Logits, token_ids: Sequence[int] = ()) -> int:
        """The token that follows ``token_ids``, those of the reply so far. The logits are not changed.

        Raises:
            VitaEdgeError: the largest logit is not finite, which is how NaN shows.
        """
        if isinstance(logits, TopKLogits):
            chosen = self._from_top(logits, token_ids)
            if chosen is not None:
                return chosen
            row = logits.row()
        else:
            row = logits.copy() if self._processors else logits
        for process in self._processors:
            process(token_ids, row)
        chosen = self._pick(row, -np.inf)
        assert chosen is not None
        return chosen

    def following(self, token_ids: Sequence[int]) -> Sampler:
        """This sampler behind a list of ids that grows while the reply is decoded."""
        return lambda logits: self(logits, token_ids)

    def _from_top(self, top: TopKLogits, token_ids: Sequence[int]) -> int | None:
        values = top.values.copy()
        for process in self._processors:
            if not isinstance(process, TopProcessor) or not process.on_top(token_ids, top.ids, values):
                return None
        at = self._pick(values, top.bound)
        return None if at is None else int(top.ids[at])


def text_sampler(
    facts: LlmFacts, options: SamplingOptions, response: int = 0, processors: Sequence[LogitsProcessor] = ()
) -> TokenSampler:
    """The sampler of a reply's text.

    Args:
        response: which one of its session: what is drawn depends on it, on the seed, and on nothing else.
        processors: more of them, behind the repetition penalty; a grammar for example.
    """
    penalty = options.penalty(facts)
    first = (RepetitionPenalty(penalty),) if penalty != 1 else ()
    return TokenSampler(_pick(options, _seed(options, response)), (*first, *processors))


def speech_sampler(facts: SpeechFacts, options: SamplingOptions, response: int = 0) -> TokenSampler:
    """The sampler of a reply's speech codes; see :func:`make_speech_sampler`."""
    return make_speech_sampler(facts, options.speech_top_k, _seed(options, response))


def make_sampler(
    top_k: int = 1,
    temperature: float = 1.0,
    seed: int | None = None,
    *,
    top_p: float = 1.0,
    min_p: float = 0.0,
    processors: Sequence[LogitsProcessor] = (),
) -> TokenSampler:
    """Build a sampler once; the same seed and logits give the same tokens.

    Args:
        top_k, temperature, top_p, min_p: see :class:`SamplingOptions`.
        seed: None draws differently in every process.

    Greedy takes the first of equal logits.

    Raises:
        Misuse: an option is out of its range.
    """
    options = SamplingOptions(top_k=top_k, temperature=temperature, top_p=top_p, min_p=min_p)
    return TokenSampler(_pick(options, seed), processors)


def make_speech_sampler(facts: SpeechFacts, top_k: int = 1, seed: int | None = None) -> TokenSampler:
    """The sampler of the speech decoder: float32 [codes + 4] to a code or ``facts.end``.

    bos, sos and padding are banned: the reference can draw them, and then its codec fails. Its demo draws from 2.
    """
    padding = facts.end + 1
    return make_sampler(top_k, seed=seed, processors=[BannedTokens((facts.bos, facts.sos, padding))])


def _seed(options: SamplingOptions, response: int) -> int:
    return options.seed + (response << 64)


def _pick(options: SamplingOptions, seed: int | None) -> Pick:
    if options.top_k == 1 or options.temperature == 0:
        return _greedy
    return _Draw(options.top_k, options.temperature, options.top_p, options.min_p, np.random.default_rng(seed))


def _greedy(values: Row, bound: float) -> int | None:
    at = int(np.argmax(values))  # argmax takes NaN for the largest, so that looking at the largest finds any NaN
    if values[at] <= bound and bound > -np.inf:
        return None
    _check(values[at])
    return at


@dataclass(frozen=True)
class _Draw:
    """By softmax at a temperature: from the ``top_k`` largest, of those ``top_p``, of those ``min_p``."""

    top_k: int
    temperature: float
    top_p: float
    min_p: float
    random: np.random.Generator

    def __call__(self, values: Row, bound: float) -> int | None:
        best = values.max()
        if best <= bound and bound > -np.inf:
            return None
        _check(best)
        floor = float(best) + self.temperature * log(self.min_p) if self.min_p else -np.inf
        ids = self._candidates(values, floor)
        among = values if ids is None else values[ids]
        chosen = _largest(among, self.top_k)
        if not self._decides(among[chosen[-1]], len(values), floor, bound):
            return None
        sizes = among[chosen].astype(np.float64)
        # Scaling the best to 0 before the division keeps a tiny temperature from overflowing.
        edges = np.cumsum(np.exp((sizes - sizes[0]) / self.temperature))
        count = len(edges)
        if self.top_p < 1:
            count = min(count, int(np.searchsorted(edges, self.top_p * edges[-1])) + 1)
        count = min(count, int(np.count_nonzero(sizes >= floor)))
        drawn = np.searchsorted(edges[:count], self.random.random() * edges[count - 1], side="right")
        at = chosen[min(int(drawn), count - 1)]
        return int(at if ids is None else ids[at])

    def _decides(self, last: np.float32, count: int, floor: float, bound: float) -> bool:
        """Whether no value outside, up to ``bound``, can be among those that are drawn from."""
        if bound == -np.inf:
            return True
        complete = 0 < self.top_k <= count and bool(last > bound)
        return complete or (self.top_p == 1 and floor > bound)

    def _candidates(self, values: Row, floor: float) -> NDArray[np.intp] | None:
        """Places, in order, among which all are that can be drawn; None when looking for them would spare nothing.

        Only parts with a large maximum can hold one of the ``top_k``, so that the logits of a large vocabulary are
        looked at once and neither copied nor sorted.
        """
        if self.top_k == 0 and self.top_p == 1 and floor > -np.inf:
            return np.flatnonzero(values >= np.nextafter(np.float32(floor), np.float32(-np.inf)))
        parts = len(values) // PART
        if not 0 < self.top_k * 4 < parts:
            return None
        largest = values[: parts * PART].reshape(parts, PART).max(axis=1)
        bound = np.partition(largest, parts - self.top_k)[parts - self.top_k]
        inside = (np.flatnonzero(largest >= bound)[:, None] * PART + np.arange(PART)).ravel()
        return np.concatenate([inside, np.arange(parts * PART, len(values))])


def _largest(values: Row, top_k: int) -> NDArray[np.intp]:
    """Places of the ``top_k`` largest (0: all), the largest first; of equals the first, on every machine."""
    if not 0 < top_k < len(values):
        return np.argsort(-values, kind="stable")
    last = np.partition(values, len(values) - top_k)[len(values) - top_k]
    among = np.flatnonzero(values >= last)
    return among[np.argsort(-values[among], kind="stable")[:top_k]]


def _check(best: np.float32) -> None:
    if not np.isfinite(best):
        raise VitaEdgeError(
            f"The model's best logit is {best}.",
            why="Its weights are damaged, or numbers became too large for a half-precision graph.",
            fix="Run `vita-edge inspect BUNDLE --check`; if all is well, export again with a wider precision.",
        )
