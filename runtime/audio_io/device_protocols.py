"""What a live talk asks of sound devices: blocks from a microphone, a speaker that pulls, and one clock for both.

All times are seconds of ``time.monotonic()``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "BLOCK_S", "MICROPHONE_RATE_HZ", "AudioBlock", "AudioInput", "AudioOutput", "SpeakerSource", "Tap"]

MICROPHONE_RATE_HZ = 16_000
BLOCK = 160
"""Samples of a block of the microphone."""
BLOCK_S = BLOCK / MICROPHONE_RATE_HZ

Tap = Callable[[NDArray[np.float32], float], None]
"""Is given every block that a speaker has pulled, float32 [n] at the rate of the source, and the time at which its
first sample sounds. Called from the audio callback: must not block."""


@dataclass(frozen=True)
class AudioBlock:
    """10 ms of what the microphone heard.

    Attributes:
        samples: float32 [160], mono, 16 kHz, full scale 1.0.
        end_s: when its last sample was captured.
    """

    samples: NDArray[np.float32]
    end_s: float


class AudioInput(Protocol):
    """Hears while it is open. Blocks follow each other without gaps, but for those that are counted as dropouts."""

    @property
    def name(self) -> str: ...

    @property
    def dropouts(self) -> int:
        """Blocks that were lost since it was opened: nobody read them in time, or the device overran."""
        ...

    @property
    def lost(self) -> bool:
        """The device is gone, and is waited for."""
        ...

    def read(self, timeout_s: float) -> AudioBlock | None:
        """The next block, or None where none came in time. One thread reads."""
        ...

    def __enter__(self) -> AudioInput: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SpeakerSource(Protocol):
    """What a speaker plays."""

    @property
    def sample_rate_hz(self) -> int: ...

    def pull(self, count: int, at_s: float) -> NDArray[np.float32]:
        """The next samples; called from the audio callback, so it never blocks.

        Args:
            count: how many.
            at_s: when the first of them will reach the converter.

        Returns:
            float32 [count], mono, zeros where it is silent.
        """
        ...


class AudioOutput(Protocol):
    """Plays what it pulls from its source while it is open; silent before ``start``."""

    @property
    def name(self) -> str: ...

    @property
    def latency_s(self) -> float:
        """From the pull of a sample to its sound."""
        ...

    @property
    def underflows(self) -> int:
        """How often the device ran dry since it was opened."""
        ...

    @property
    def lost(self) -> bool:
        """The device is gone, and is waited for."""
        ...

    def start(self, source: SpeakerSource, tap: Tap | None = None) -> None:
        """Play ``source`` from now on, and let ``tap`` have what is played."""
        ...

    def __enter__(self) -> AudioOutput: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
