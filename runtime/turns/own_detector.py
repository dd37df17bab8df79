"""The runtime's own turn detector: a small network over prosody, alone or beside Smart Turn.

The weights are in ``turn_weights.json``; ``benchmarks/turn_training.py`` makes them from a labelled set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .detector import TurnDetector
from .prosody import FEATURES, features

__all__ = ["CombinedDetector", "OwnDetector", "both"]

WEIGHTS = Path(__file__).with_name("turn_weights.json")
CLIPPED = 3.0
"""Standard deviations beyond which an input is taken for its limit."""
LEAST = 0.002
"""Probabilities are held that far from 0 and 1 before their logarithms are taken."""


class OwnDetector:
    """A :class:`~.detector.TurnDetector` from prosody alone; a call takes about 10 ms of one core."""

    name = "prosody"

    def __init__(self) -> None:
        weights = json.loads(WEIGHTS.read_text("utf-8"))
        if weights["format"] != 1 or tuple(weights["features"]) != FEATURES:
            raise ValueError(f"{WEIGHTS.name} is for other features: train again")
        self._mean, self._scale = np.array(weights["mean"]), np.array(weights["scale"])
        self._members = [
            {name: np.array(value, np.float64) for name, value in member.items()} for member in weights["members"]
        ]

    def probability(self, turn: NDArray[np.float32]) -> float:
        """That the turn in float32 [n] at 16 kHz is complete."""
        return self.of_features(features(turn))

    def of_features(self, heard: Sequence[float] | NDArray[np.float64]) -> float:
        """The probability for the features of a turn."""
        x = np.clip((np.asarray(heard, np.float64) - self._mean) / self._scale, -CLIPPED, CLIPPED)
        reported = [np.tanh(x @ m["first"] + m["bias"]) @ m["second"] + m["last"] for m in self._members]
        return float(1 / (1 + np.exp(-np.mean(reported))))


class CombinedDetector:
    """Prosody and another detector, each with half a vote."""

    def __init__(self, other: TurnDetector) -> None:
        self._own, self._other = OwnDetector(), other
        self.name = f"prosody + {other.name}"

    def probability(self, turn: NDArray[np.float32]) -> float:
        """That the turn in float32 [n] at 16 kHz is complete."""
        return both(self._own.probability(turn), self._other.probability(turn))


def both(first: float, second: float) -> float:
    """The probability whose log-odds are the mean of those of two."""
    held = np.clip([first, second], LEAST, 1 - LEAST)
    return float(1 / (1 + np.exp(-np.mean(np.log(held / (1 - held))))))
