"""The verbs with which a turn is handed over: from any thread, at any moment."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..audio_io.pcm import float_samples
from ..audio_io.sound import Sound
from ..decoding.segments import Rows
from ..encoders.encoders import Encoders
from ..text.prompt import Style
from .open_turn import OpenTurn
from .turn import Turn

__all__ = ["TurnInputs"]


class TurnInputs:
    """Collects the turn that the user is at.

    Args:
        encoders: encode it.
        style: of the prompts.
        max_tiles: most tiles of a picture.
    """

    def __init__(self, encoders: Encoders, style: Style, max_tiles: int | None = None) -> None:
        self._encoders, self._style, self._max_tiles = encoders, style, max_tiles
        self._input = threading.Lock()
        """Held while something is appended."""
        self._turn = self._new_turn()

    def append_text(self, text: str) -> None:
        """Add text to the turn.

        Raises:
            BadInput: it is not valid Unicode.
        """
        with self._input:
            self._turn.append_text(text)

    def append_image(self, pixels: NDArray[np.uint8]) -> None:
        """Add a still picture, uint8 [H, W, 3] RGB, which is cut into tiles; gray and RGBA are converted.

        Raises:
            BadInput: it is no picture.
        """
        with self._input:
            self._turn.append_image(pixels)

    def append_frame(self, pixels: NDArray[np.uint8]) -> None:
        """Add a frame of a video or a camera, uint8 [H, W, 3] RGB: one tile, cheaper than a picture.

        Raises:
            BadInput: it is no picture.
        """
        with self._input:
            self._turn.append_frame(pixels)

    def append_encoded_frame(self, rows: Rows) -> None:
        """Add a frame that is encoded already: float32 [tokens, hidden]."""
        with self._input:
            self._turn.append_encoded_frame(rows)

    def append_audio(self, block: ArrayLike, sample_rate_hz: int) -> None:
        """Add a block of what the user says: int16 [n] or floats [n] with full scale 1.0, mono, of any rate.

        Blocks follow each other without gaps. They are one utterance until :meth:`commit`.

        Raises:
            BadInput: it is no audio.
            Misuse: the rate is another one than that of the blocks before.
        """
        samples = float_samples(block, sample_rate_hz)
        with self._input:
            self._turn.append_audio(samples, sample_rate_hz)

    def append_sound(self, sound: Sound) -> None:
        """Add a whole utterance, for example a file. It is resampled as the reference resamples."""
        with self._input:
            self._turn.append_sound(sound)

    def append_turn(self, turn: Turn) -> None:
        """Add all of ``turn``, or nothing.

        Raises:
            BadInput: some of it cannot be used.
        """
        with self._input:
            before = self._turn.mark()
            try:
                for image in turn.images:
                    self._turn.append_image(image)
                for frame in turn.frames:
                    self._turn.append_frame(frame)
                self._turn.append_text(turn.text)
                for sound in turn.sounds:
                    self._turn.append_sound(sound)
            except BaseException:
                self._turn.rewind(before)
                raise

    def commit(self) -> bool:
        """The utterance is over; False when there is none.

        Raises:
            BadInput: it is too short or too long to be heard; it is dropped.
        """
        with self._input:
            return self._turn.commit()

    def clear_audio(self) -> None:
        """Drop the audio that was appended since the last :meth:`commit`."""
        with self._input:
            self._turn.clear_audio()

    def clear(self) -> None:
        """Drop all that was appended since the last response."""
        with self._input:
            self._turn = self._new_turn()

    def hear(self, samples: NDArray[np.float32]) -> None:
        """All that the user has said so far, float32 [n] at 16 kHz, in place of :meth:`append_audio`."""
        with self._input:
            self._turn.hear(samples)

    @property
    def frames(self) -> int:
        """Frames of the turn."""
        return self._turn.frames

    def _new_turn(self) -> OpenTurn:
        return OpenTurn(self._encoders, self._style, self._max_tiles)
