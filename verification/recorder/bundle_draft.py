"""A bundle guesses replies, so that the reference needs fewer passes to decode the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vita_edge.runtime import Assistant
from vita_edge.runtime.decoding.language_model import LanguageModel
from vita_edge.runtime.decoding.logits_processors import RepetitionPenalty
from vita_edge.runtime.decoding.top_k_logits import row_of

__all__ = ["BundleDraft"]


class BundleDraft:
    """The greedy continuation of prompts by the language model of an opened bundle; a KV cache for each prompt."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        self._penalty = RepetitionPenalty(assistant.bundle.model.llm.repetition_penalty)
        self._models: dict[str, LanguageModel] = {}

    def __call__(self, prompt: str, rows: NDArray[np.float32], tokens: list[int], count: int) -> list[int]:
        """At most ``count`` tokens behind the prompt ``rows`` float32 [n, hidden] and the ``tokens`` of its answer.

        ``prompt`` names it: what was read of it before is not read again.
        """
        model = self._models.get(prompt)
        if model is None:
            model = self._models[prompt] = self._assistant.language_model()
            model.prefill(rows[:-1])
        model.rewind(len(rows) - 1)
        logits = model.prefill(np.concatenate([rows[-1:], self._assistant.embeddings.rows(tokens)]))
        chosen = list(tokens)
        while True:
            row = row_of(logits).copy()
            self._penalty(chosen, row)
            chosen.append(int(row.argmax()))
            if len(chosen) == len(tokens) + count:
                return chosen[len(tokens) :]
            logits = model.step(chosen[-1])
