"""From a sentence to codes: one prefix pass, then one step a code, over one KV cache that is used again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import SpeechFacts
from vita_edge.engines.errors import BadBundle
from vita_edge.engines.session import GraphSession

from ..decoding.decode_loop import decode_tokens
from ..decoding.sampling import Sampler
from ..decoding.top_k_logits import Logits, logits_of

__all__ = ["MAX_CODES", "SpeechDecoder"]

MAX_CODES = 1000
"""The reference gives up after 25 seconds of a sentence."""


class SpeechDecoder:
    """Speaks one sentence at a time.

    Args:
        prefill: session of ``speech_prefill``; decoder: session of ``speech_decoder``.
    """

    def __init__(self, prefill: GraphSession, decoder: GraphSession, facts: SpeechFacts) -> None:
        self._prefill, self._decoder, self._facts = prefill, decoder, facts
        self._positions = decoder.max_tokens or facts.context_tokens
        self._cache = decoder.new_cache(self._positions)
        self._code = np.zeros((1, 1), np.int64)

    @property
    def cache_bytes(self) -> int:
        """Memory of the full KV cache."""
        return self._cache.nbytes

    @property
    def max_tokens(self) -> int:
        """Longest sentence, in tokens, that leaves room for ``MAX_CODES``."""
        return (self._positions - MAX_CODES - 2) // self._facts.vectors_per_token

    def start(self, embeddings: NDArray[np.float32]) -> Logits:
        """Read a sentence: ``embeddings`` float32 [tokens, hidden] of its tokens.

        Returns:
            logits [codes + 4] of the first code, valid until the next call.
        """
        if not 0 < len(embeddings) <= self.max_tokens:
            raise ValueError(f"a sentence of {len(embeddings)} tokens; 1 to {self.max_tokens} can be spoken")
        vectors = np.ascontiguousarray(embeddings, np.float32).reshape(1, -1, self._facts.width)
        self._cache.fill(self._prefill.infer({"text_embeds": vectors}))
        return self.step(self._facts.sos)

    def step(self, code: int) -> Logits:
        """Append one code; returns the logits [codes + 4] that follow it, valid until the next call."""
        self._code[0, 0] = code
        return logits_of(self._decoder.infer({"code": self._code}, self._cache))

    def codes(
        self,
        embeddings: NDArray[np.float32],
        sample: Sampler,
        max_codes: int = MAX_CODES,
        *,
        said: Sequence[int] = (),
    ) -> Iterator[int]:
        """Yield the codes of a sentence until its end; the end code is left out.

        Args:
            said: codes of it that were yielded before it was left; it goes on behind them.

        Raises:
            BadBundle: the sampler drew a special code, which is no sound.
        """
        said = tuple(said)
        logits = self.start(embeddings)
        for code in said:
            logits = self.step(code)
        for code in decode_tokens(logits, sample, self.step, max_codes - len(said), (self._facts.end,)):
            if code == self._facts.end:
                return
            if code >= self._facts.codes:
                raise BadBundle(
                    f"The speech decoder asked for the special code {code}.",
                    why="Only codes of sound and the end can be spoken.",
                    fix="Use a sampler that masks special codes.",
                )
            yield code
