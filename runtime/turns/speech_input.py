"""The ears of a live talk: blocks of the microphone in, steps with or without voice out; all is kept to be cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..audio_io.device_protocols import AudioBlock
from ..audio_io.echo_canceller import CancelsEcho
from ..live.live_options import LiveOptions
from .input_buffer import Recording
from .silero_vad import VoiceDetector
from .vad_gate import VoiceStep, Voicing

__all__ = ["SpeechInput"]


class SpeechInput:
    """Hears; one thread calls :meth:`step`, any thread may cut clips.

    Times are seconds of sound heard, 0 at the first block.

    Raises:
        MissingPackage: the voice detector is not installed.
    """

    def __init__(self, options: LiveOptions, canceller: CancelsEcho) -> None:
        self._options, self._canceller = options, canceller
        self._voicing = Voicing(VoiceDetector().step, options.voice_threshold)
        self._recording = Recording(options.times.max_utterance_ms / 1000 + 10)
        self._powers: list[float] = []

    @property
    def now_s(self) -> float:
        """Seconds of sound that were heard."""
        return self._recording.end_s

    def step(self, block: AudioBlock) -> VoiceStep | None:
        """Hear 10 ms; the step of the voice detector that is complete with them, if one is."""
        block = self._canceller.step(block)
        self._recording.add(block)
        self._powers.append(float(np.dot(block.samples, block.samples)) / len(block.samples))
        return self._voicing.step(block.samples)

    def level_dbfs(self) -> float:
        """Loudness since it was asked for last: root mean square, full scale 0."""
        power = sum(self._powers) / max(len(self._powers), 1)
        self._powers.clear()
        return 10 * float(np.log10(max(power, 1e-12)))

    def speech(self, begin_s: float, end_s: float | None = None) -> NDArray[np.float32]:
        """What the model hears of a speech: float32 [n] at 16 kHz, a little more than the voice on both sides.

        Without ``end_s`` it still goes on, and all that there is of it is given.
        """
        begin_s -= self._options.prefix_padding_ms / 1000
        return self._recording.cut(begin_s, None if end_s is None else end_s + self._options.postroll_ms / 1000)

    def monotonic_s(self, heard_s: float) -> float:
        """When something was captured, in seconds of ``time.monotonic()``."""
        return self._recording.monotonic_s(heard_s)
