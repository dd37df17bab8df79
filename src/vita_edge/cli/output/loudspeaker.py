"""Plays a sound to whoever sits there, where a loudspeaker is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import DeviceFailed, MissingPackage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Play", "find_loudspeaker"]

Play = Callable[["NDArray[np.float32]", int], None]
"""Plays samples, float32 [n], of a rate in Hz, to their end."""


def find_loudspeaker() -> Play | None:
    """The system's default; None without the extra ``live``, PortAudio or a device."""
    from vita_edge.runtime.audio_io.portaudio import PORTAUDIO, choose, load

    try:
        sounddevice: Any = load()
        device = choose(None, "output")
    except (MissingPackage, DeviceFailed):
        return None

    def play(samples: NDArray[np.float32], rate_hz: int) -> None:
        with PORTAUDIO:
            try:
                sounddevice.play(samples, rate_hz, device=device.index, blocking=True)
            except sounddevice.PortAudioError:
                return  # unplugged, or taken by somebody else: the demo shows its text all the same

    return play
