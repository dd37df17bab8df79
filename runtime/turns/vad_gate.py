"""From blocks of 10 ms to whether there is voice: the detector's steps, and a threshold that does not flutter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..audio_io.device_protocols import MICROPHONE_RATE_HZ
from .silero_vad import STEP

__all__ = ["VoiceStep", "Voicing"]

RELEASE = 0.15
"""A voice ends when the probability falls that far below the threshold at which it begins: 0.7 and 0.55 in the
reference's demo."""


@dataclass(frozen=True)
class VoiceStep:
    """A step of the detector. Times are seconds of sound since the beginning."""

    begin_s: float
    end_s: float
    probability: float
    voice: bool


class Voicing:
    """Collects samples into steps of 32 ms and judges them.

    Args:
        detect: float32 [512] to the probability of speech.
        threshold: from which a voice begins.
    """

    def __init__(self, detect: Callable[[NDArray[np.float32]], float], threshold: float) -> None:
        self._detect, self._threshold = detect, threshold
        self._waiting = np.zeros(0, np.float32)
        self._steps = 0
        self._voice = False

    def step(self, samples: NDArray[np.float32]) -> VoiceStep | None:
        """Take float32 [n], n at most 512; the step that is complete with them, if one is."""
        self._waiting = np.concatenate([self._waiting, samples])
        if len(self._waiting) < STEP:
            return None
        probability = self._detect(self._waiting[:STEP])
        self._waiting = self._waiting[STEP:]
        self._voice = probability >= self._threshold - (RELEASE if self._voice else 0.0)
        begin_s = self._steps * STEP / MICROPHONE_RATE_HZ
        self._steps += 1
        return VoiceStep(begin_s, self._steps * STEP / MICROPHONE_RATE_HZ, probability, self._voice)
