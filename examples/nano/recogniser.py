"""An independent listener: pocketsphinx, offline, told which words the replies have and how they follow each other."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pocketsphinx import Decoder
from pocketsphinx.lm import ArpaBoLM

from vita_edge.runtime.audio_io.sound import resample

__all__ = ["Recogniser", "word_errors", "words"]

RATE_HZ = 16000
SILENCE_S = 0.25


class Recogniser:
    """Args: texts: sentences whose trigrams it expects; None: any English, by its own large vocabulary."""

    def __init__(self, texts: Sequence[str] | None) -> None:
        if texts is None:
            self._decoder = Decoder(samprate=RATE_HZ, loglevel="FATAL")
            return
        corpus = "".join(f"<s> {' '.join(words(text))} </s>\n" for text in texts)
        model = ArpaBoLM(text=corpus)
        model.compute()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "replies.arpa"
            model.write_file(str(file))
            self._decoder = Decoder(samprate=RATE_HZ, loglevel="FATAL", lm=str(file))

    def hear(self, samples: NDArray[np.float32], rate_hz: int) -> list[str]:
        """The words that were understood in a whole sentence, float32 [n]."""
        samples = np.pad(resample(samples, rate_hz, RATE_HZ), int(SILENCE_S * RATE_HZ))
        samples = samples + np.random.default_rng(0).normal(0, 1e-4, len(samples))  # a microphone is never silent
        pcm = (32767 * np.clip(samples, -1, 1)).astype(np.int16)
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return words(found.hypstr) if found else []


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words to put in, take out or change: the edit distance."""
    costs = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, costs[0] = costs[0], i
        for j, other in enumerate(heard, 1):
            best = min(costs[j] + 1, costs[j - 1] + 1, diagonal + (word != other))
            diagonal, costs[j] = costs[j], best
    return costs[-1]
