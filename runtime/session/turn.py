"""What a user hands over at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..audio_io.sound import Sound

__all__ = ["Turn"]


@dataclass(frozen=True)
class Turn:
    """What the user says and shows at once."""

    text: str = ""
    sounds: Sequence[Sound] = ()
    images: Sequence[NDArray[np.uint8]] = ()
    """Still pictures uint8 [H, W, 3], each cut into tiles."""
    frames: Sequence[NDArray[np.uint8]] = ()
    """Frames of a video in order, uint8 [H, W, 3], one tile each."""
