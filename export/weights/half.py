"""Whether half precision holds a weight: decided by its values, before its graph is written (docs/decisions/0023)."""

from __future__ import annotations

import numpy as np

from .formats import LARGEST_HALF
from .weight import Weight

__all__ = ["MIN_SNR_DB", "held_by_half"]

MIN_SNR_DB = 60.0
"""Rounding to 11 bits leaves about 75 dB. Below 6e-5 half precision has steps of 6e-8 and digits are lost: where that
is true of a few values beside larger ones it does not show, where it is true of a whole weight it does."""


def held_by_half(weight: Weight) -> bool:
    """Whether rounding ``weight`` to half precision leaves all of it finite and ``LEAST_SNR_DB`` above its error. Reads
    all of it, a piece at a time; stops at the first value that is too large, or is no number."""
    signal = noise = 0.0
    for piece in weight.pieces():
        if not np.abs(piece).max(initial=0) <= LARGEST_HALF:
            return False
        exact = piece.astype(np.float64)
        error = piece.astype(np.float16).astype(np.float64) - exact
        signal += float(np.vdot(exact, exact))
        noise += float(np.vdot(error, error))
    return noise * 10 ** (MIN_SNR_DB / 10) <= signal
