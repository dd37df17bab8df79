"""The turn that the user is at: what was handed over since the last response, and what of it is encoded."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput, Misuse

from ..audio_io.sound import Sound
from ..audio_io.stream_resampler import StreamResampler
from ..decoding.segments import Rows
from ..encoders.encoders import Encoders
from ..encoders.picture_array import as_picture
from ..encoders.vision_frontend import read_image
from ..events.turn_clock import TurnClock
from ..text.prompt import Style, UserTurn
from .prompt_layout import TurnContent

__all__ = ["OpenTurn", "Utterance"]

MIN_PIECE_TOKENS = 4
"""Tokens of audio worth encoding while the user speaks: 0.32 s. Less would be left at the end, but the encoder's
weights are read for every piece."""
TOKEN_MS = 80
"""Audio of a token."""


class Utterance:
    """What the user says at once: audio that grows, and its rows as they are encoded.

    Args:
        encoders: encode it.
        sound: all of it, if it is there already.
    """

    def __init__(self, encoders: Encoders, sound: Sound | None = None) -> None:
        self._encoder = encoders.new_clip()
        self._front_end = encoders.audio_front_end
        self._sound = sound
        self._blocks: list[NDArray[np.float32]] = []
        self._resampler: StreamResampler | None = None
        self._rate_hz = 0
        self.settled: list[Rows] = []
        """Rows that stay as they are however the user goes on, piece by piece."""
        self.rest: Rows | None = None
        """Rows of its end."""

    def append(self, block: NDArray[np.float32], rate_hz: int) -> None:
        """Add float32 [n] of ``rate_hz``."""
        if self._resampler is None:
            self._rate_hz = rate_hz
            self._resampler = StreamResampler(rate_hz, self._front_end.facts.sample_rate_hz)
        if rate_hz != self._rate_hz:
            raise Misuse(
                f"A block of {rate_hz} Hz follows blocks of {self._rate_hz} Hz.",
                why="An utterance has one sample rate.",
                fix="Resample the block, or call commit() first.",
            )
        self._blocks.append(self._resampler.step(block))

    def replace(self, samples: NDArray[np.float32]) -> None:
        """All of the audio so far, float32 [n] at 16 kHz, in place of what was appended."""
        self._blocks = [samples]

    def end(self) -> None:
        """Nothing will be appended any more.

        Raises:
            BadInput: it is too short, too long, or not made of numbers.
        """
        if self._resampler is not None:
            self._blocks.append(self._resampler.flush())
        self._front_end.check_length(self._samples_count)

    @property
    def tokens(self) -> int:
        """Positions that the whole of it takes, as far as it is there."""
        return self._front_end.facts.positions(self._front_end.frames(self._samples_count))

    def encode_ahead(self) -> int:
        """Encode what stays as it is however the user goes on, if there is enough of it; rows that are new."""
        samples = self._samples()
        if self._encoder.ready(len(samples)) < MIN_PIECE_TOKENS:
            return 0
        rows = self._encoder.step(samples)
        self.settled.append(rows)
        return len(rows)

    def encode(self) -> int:
        """Encode it as if it ended here; it may go on nevertheless, and be ended again. Rows that are new."""
        self.rest = self._encoder.finish(self._samples())
        return len(self.rest)

    def pieces(self, *, ended: bool) -> tuple[Rows, ...]:
        """What is encoded, in pieces."""
        return (*self.settled, self.rest) if ended and self.rest is not None else tuple(self.settled)

    @property
    def _samples_count(self) -> int:
        if self._sound is not None:
            rate = self._front_end.facts.sample_rate_hz
            return -(-self._sound.heard_channel.size * rate // self._sound.sample_rate_hz)
        return sum(map(len, self._blocks))

    def _samples(self) -> NDArray[np.float32]:
        if self._sound is not None:
            return self._front_end.wave(self._sound)
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return self._blocks[0] if self._blocks else np.zeros(0, np.float32)


@dataclass
class _Picture:
    pixels: NDArray[np.uint8] | None
    tiles: int
    rows: list[Rows] = field(default_factory=list)


class OpenTurn:
    """Collects what the user hands over; encodes it piece by piece, one call of a graph for each step."""

    def __init__(self, encoders: Encoders, style: Style, max_tiles: int | None = None) -> None:
        self._encoders, self._style, self._max_tiles = encoders, style, max_tiles
        self._text = ""
        self._images: list[_Picture] = []
        self._frames: list[_Picture] = []
        self._utterances: list[Utterance] = []
        self._speaking: Utterance | None = None

    @property
    def empty(self) -> bool:
        """Nothing was handed over that could be answered."""
        return not (self._text.strip() or self._images or self._frames or self._utterances or self._speaking)

    @property
    def spoken(self) -> bool:
        """Some of it was said."""
        return bool(self._utterances or self._speaking)

    def mark(self) -> tuple[str, int, int, int]:
        """What was handed over so far, to :meth:`rewind` to."""
        return self._text, len(self._images), len(self._frames), len(self._utterances)

    def rewind(self, mark: tuple[str, int, int, int]) -> None:
        """Drop what was handed over since."""
        self._text, images, frames, utterances = mark
        del self._images[images:], self._frames[frames:], self._utterances[utterances:]

    def append_text(self, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadInput(
                "The text is not valid Unicode.",
                why=f"Character {error.start + 1} is half of a pair, or a byte that is not UTF-8.",
                fix="Give the text as UTF-8.",
            ) from error
        self._text += text

    def append_image(self, pixels: NDArray[np.uint8]) -> None:
        pixels = _checked(pixels)
        self._images.append(_Picture(pixels, self._encoders.tiles(pixels, self._style, max_tiles=self._max_tiles)))

    def append_frame(self, pixels: NDArray[np.uint8]) -> None:
        self._frames.append(_Picture(_checked(pixels), 1))

    def append_encoded_frame(self, rows: Rows) -> None:
        self._frames.append(_Picture(None, 1, [rows]))

    def append_sound(self, sound: Sound) -> None:
        """A whole utterance."""
        self._utterances.append(Utterance(self._encoders, sound))

    def append_audio(self, block: NDArray[np.float32], rate_hz: int) -> None:
        if self._speaking is None:
            self._speaking = Utterance(self._encoders)
        self._speaking.append(block, rate_hz)

    def commit(self) -> bool:
        """The utterance that blocks were appended to is over; False when there is none.

        Raises:
            BadInput: it is too short or too long; it is dropped.
        """
        utterance, self._speaking = self._speaking, None
        if utterance is None:
            return False
        utterance.end()
        self._utterances.append(utterance)
        return True

    def hear(self, samples: NDArray[np.float32]) -> None:
        """All that the user has said so far, float32 [n] at 16 kHz: instead of blocks, for who cuts it anew."""
        if self._speaking is None:
            self._speaking = Utterance(self._encoders)
        self._speaking.replace(samples)

    def reopen(self) -> None:
        """The user goes on with what they said last."""
        if self._utterances and self._speaking is None:
            self._speaking = self._utterances.pop()
            self._speaking.rest = None

    def clear_audio(self) -> None:
        """Drop what was appended since the last commit."""
        self._speaking = None

    def counted(self) -> UserTurn:
        """How many marks of each kind it has in a prompt."""
        return UserTurn(self._text, sum(p.tiles for p in self._images), len(self._frames), len(self._utterances))

    def media_tokens(self, tokens_per_tile: int) -> int:
        """Positions of its pictures and sounds, before any of them is encoded."""
        turn = self.counted()
        return (turn.tiles + turn.frames) * tokens_per_tile + sum(each.tokens for each in self._utterances)

    @property
    def frames(self) -> int:
        """Frames that were handed over."""
        return len(self._frames)

    def encode_ahead(self, clock: TurnClock) -> bool:
        """Do one step of what can be done although the user goes on; False when there is nothing to do."""
        for each in self._frames:
            if each.pixels is not None:
                with clock.span("vision") as work:
                    each.rows, each.pixels = self._encoders.watch([each.pixels], self._style), None
                    work.count = 1
                return True
        if self._speaking is None:
            return False
        with clock.span("audio") as work:
            work.count = TOKEN_MS * self._speaking.encode_ahead()
        return bool(work.count)

    def encode(self, clock: TurnClock) -> Generator[None, None, None]:
        """Encode all that is not encoded yet.

        Raises:
            BadInput: something cannot be used.
        """
        for each in self._images:
            if each.pixels is not None:
                tiles = self._encoders.see_steps(each.pixels, self._style, max_tiles=self._max_tiles)
                yield from _timed(tiles, each.rows, clock)
                each.pixels = None
        frames = [each for each in self._frames if each.pixels is not None]
        rows: list[Rows] = []
        if frames:
            pixels = [each.pixels for each in frames if each.pixels is not None]
            yield from _timed(self._encoders.watch_steps(pixels, self._style), rows, clock)
        for each, row in zip(frames, rows):
            each.rows, each.pixels = [row], None
        for utterance in self._utterances:
            if utterance.rest is None:
                with clock.span("audio") as work:
                    work.count = TOKEN_MS * utterance.encode()
                yield

    def content(self, *, ended: bool = True) -> TurnContent:
        """What is encoded of it; ``ended``: with all that was said."""
        speaking = [self._speaking] if self._speaking is not None and not ended else []
        return TurnContent(
            self._text,
            tuple(row for each in self._images for row in each.rows),
            tuple(row for each in self._frames for row in each.rows),
            tuple(each.pieces(ended=each not in speaking) for each in [*self._utterances, *speaking]),
        )


def _timed(tiles: Generator[Rows, None, None], rows: list[Rows], clock: TurnClock) -> Generator[None, None, None]:
    for row in clock.timed("vision", tiles):
        rows.append(row)
        yield


def _checked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]; what is plainly a picture is converted, everything else is refused."""
    return as_picture(pixels) if isinstance(pixels, np.ndarray) else read_image(pixels)
