"""A bundle guesses replies, so that the reference needs fewer passes to decode the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vita_edge.runtime import Assistant
from vita_edge.runtime.decoding.logits_processors import RepetitionPenalty
from vita_edge.runtime.decoding.top_k_logits import row_of

__all__ = ["BundleDraft"]


class BundleDraft:
    """The greedy continuation of a prompt by the language model of an opened bundle."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        self._model = assistant.language_model()
        self._penalty = assistant.bundle.model.llm.repetition_penalty

    def __call__(self, rows: NDArray[np.float32], tokens: list[int], count: int) -> list[int]:
        """At most ``count`` tokens behind the prompt ``rows`` float32 [n, hidden] and the ``tokens`` of its answer."""
        self._model.rewind(0)
        if tokens:
            rows = np.concatenate([rows, self._assistant.embeddings.rows(tokens)])
        chosen = list(tokens)
        logits = self._model.prefill(rows)
        while len(chosen) < len(tokens) + count:
            row = row_of(logits).copy()
            RepetitionPenalty(self._penalty)(chosen, row)
            chosen.append(int(row.argmax()))
            if len(chosen) < len(tokens) + count:
                logits = self._model.step(chosen[-1])
        return chosen[len(tokens) :]
