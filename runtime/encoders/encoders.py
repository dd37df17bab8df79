"""Hearing and sight: sounds and pictures to rows of the prompt."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import ModelFacts
from vita_edge.engines.session import GraphSession

from ..audio_io.sound import Sound
from ..text.prompt import Style
from .audio_frontend import AudioFrontEnd
from .picture_array import as_picture
from .streaming_audio_encoder import ClipEncoder
from .vision_frontend import VisionFrontEnd, command_line_facts

__all__ = ["Encoders"]

Rows = NDArray[np.float32]
"""float32 [positions, hidden]"""


class Encoders:
    """The two encoders with their front ends.

    Args:
        audio, vision: sessions of the components of these names.
    """

    def __init__(self, audio: GraphSession, vision: GraphSession, facts: ModelFacts) -> None:
        self.audio_front_end = AudioFrontEnd(facts.audio)
        self.vision_front_ends: dict[Style, VisionFrontEnd] = {
            "command_line": VisionFrontEnd(command_line_facts(facts.vision)),
            "live": VisionFrontEnd(facts.vision),
        }
        self._audio, self._vision = audio, vision

    def clip_positions(self, sound: Sound) -> int:
        """Rows that :meth:`hear` will give; 0 for a clip that is too short."""
        front_end = self.audio_front_end
        samples = -(-sound.heard_channel.size * front_end.facts.sample_rate_hz // sound.sample_rate_hz)
        return front_end.facts.positions(front_end.frames(samples))

    def tiles(self, image: NDArray[np.uint8], style: Style, *, max_tiles: int | None = None) -> int:
        """Tiles that :meth:`see` will cut a picture into."""
        front_end = self.vision_front_ends[style]
        columns, rows = front_end.grid(image.shape[1], image.shape[0], max_tiles=max_tiles)
        return columns * rows + (front_end.facts.use_thumbnail and columns * rows > 1)

    def hear(self, sound: Sound) -> Rows:
        """Rows of one clip: float32 [positions, hidden].

        Raises:
            BadInput: the clip is too short, too long, or not made of numbers.
        """
        return self.new_clip().finish(self.audio_front_end.wave(sound))

    def new_clip(self) -> ClipEncoder:
        """Hears a sound while it still goes on."""
        return ClipEncoder(self._audio, self.audio_front_end)

    def see(self, image: NDArray[np.uint8], style: Style, *, max_tiles: int | None = None) -> list[Rows]:
        """Rows of a still picture uint8 [H, W, 3], tile by tile, the thumbnail last."""
        return list(self.see_steps(image, style, max_tiles=max_tiles))

    def see_steps(
        self, image: NDArray[np.uint8], style: Style, *, max_tiles: int | None = None
    ) -> Generator[Rows, None, None]:
        """The same, one tile for each step."""
        yield from self._encode(self.vision_front_ends[style].tiles(image, max_tiles=max_tiles))

    def watch(self, frames: Iterable[NDArray[np.uint8]], style: Style) -> list[Rows]:
        """Rows of video frames, one tile each: cropped or padded as the checkpoint says, or stretched when live."""
        return list(self.watch_steps(frames, style))

    def watch_steps(self, frames: Iterable[NDArray[np.uint8]], style: Style) -> Generator[Rows, None, None]:
        """The same, one frame for each step."""
        front_end = self.vision_front_ends[style]
        frames = [as_picture(frame, "The frame") for frame in frames]
        yield from self._encode(front_end.stretched(frames) if style == "live" else front_end.frame_tiles(frames))

    def encode_tiles(self, tiles: NDArray[np.uint8]) -> list[Rows]:
        """Rows of tiles uint8 [tiles, S, S, 3]."""
        return list(self._encode(tiles))

    def _encode(self, tiles: NDArray[np.uint8]) -> Generator[Rows, None, None]:
        """One at a time: the attention scores of a tile take tens of megabytes, and a CPU gains nothing from more."""
        for tile in tiles:
            pixels = self.vision_front_ends["live"].normalise(tile[None])
            yield self._vision.infer({"pixel_values": pixels})["image_embeds"][0].copy()
