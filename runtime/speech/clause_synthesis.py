"""Speech: one sentence to sound, piece by piece, over speech decoder and codec."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import ModelFacts
from vita_edge.engines.bundle.format import EmbeddingTable
from vita_edge.engines.errors import BadBundle
from vita_edge.engines.session import GraphSession

from ..decoding.sampling import Sampler
from ..events.turn_clock import TurnClock
from ..text.clause_cutter import Clause
from ..text.tokenizer import Tokenizer
from .codec_stream import ExactCodecStream, ReferenceCodecStream, Samples
from .speech_decoder import MAX_CODES, SpeechDecoder

__all__ = ["ClauseVoice", "Streaming", "Synthesizer"]

Streaming: TypeAlias = Literal["exact", "reference"]
"""exact: equals one decode of the whole sentence. reference: the chunks and cuts of the reference's live demo."""

_log = logging.getLogger(__name__)

CHUNKS = (12, 12, 20, 40)
"""Codes of the pieces of a clause: 0.3 s of sound as early as it can be had, then growing, so that each piece is made
while those before it are played, to a second at a time."""


class Synthesizer:
    """Speaks clauses, one after the other, over a KV cache of its own; the graphs may be shared.

    Args:
        prefill, decoder, codec: sessions of ``speech_prefill``, ``speech_decoder`` and ``codec``.
        embeddings: the language model's token table: the speech decoder reads the same rows.
    """

    def __init__(
        self,
        prefill: GraphSession,
        decoder: GraphSession,
        codec: GraphSession,
        facts: ModelFacts,
        embeddings: EmbeddingTable,
        tokenizer: Tokenizer,
    ) -> None:
        self.sample_rate_hz = facts.codec.sample_rate_hz
        self.decoder = SpeechDecoder(prefill, decoder, facts.speech)
        self._codec, self._facts = codec, facts.codec
        self._embeddings, self._tokenizer = embeddings, tokenizer

    def check(self) -> None:
        """Refuse a codec that needs more codes a frame than the speech decoder makes.

        Raises:
            BadBundle: it does.
        """
        if self._facts.streams != 1:
            raise BadBundle(
                f"The codec takes {self._facts.streams} codes a frame, the speech decoder makes one.",
                why="No released model does this, and nothing says how they would be ordered.",
                fix="Ask for text only (--no-speech).",
            )

    def decode(self, codes: NDArray[np.int64]) -> Samples:
        """One pass of the codec: int64 [1, n] → float32 [n · samples_per_code], valid until the next call.

        Raises:
            BadBundle: what came out is not a sound.
        """
        wave = self._codec.infer({"codes": codes})["waveform"][0]
        if not np.isfinite(wave).all():
            raise BadBundle(
                "The codec made samples that are not numbers.",
                why="Its weights are damaged.",
                fix="Run `vita-edge inspect BUNDLE --check`; copy or export the bundle again if a file is damaged.",
            )
        return wave

    def stream(self, clause: Clause, streaming: Streaming) -> ExactCodecStream | ReferenceCodecStream:
        """A fresh codec stream for one clause."""
        if streaming == "exact":
            return ExactCodecStream(self.decode, self._facts, *CHUNKS)
        return ReferenceCodecStream(self.decode, self._facts, clause.chunk, clause.threshold, clause.padding)

    def clause(self, clause: Clause, sample: Sampler, streaming: Streaming = "exact") -> ClauseVoice:
        """A clause that can be spoken code by code."""
        ids = self._tokenizer.encode(clause.text)
        maximum = self.decoder.max_tokens  # a sentence longer than the cache is spoken in parts
        parts = [self._embeddings.rows(ids[start : start + maximum]) for start in range(0, len(ids), maximum)]
        return ClauseVoice(self.decoder, parts, self.stream(clause, streaming), sample)

    def speak(
        self, clause: Clause, sample: Sampler, streaming: Streaming = "exact", clock: TurnClock | None = None
    ) -> Iterator[Samples]:
        """Yield the sound of a clause as soon as it can be had: float32 [samples], not trimmed."""
        clock = clock or TurnClock()
        voice = self.clause(clause, sample, streaming)
        for code in clock.timed("speech_decoder", voice.codes()):
            with clock.span("codec"):
                samples = voice.sound(code)
            if len(samples):
                yield samples


class ClauseVoice:
    """One clause while it is spoken.

    It may be left between two codes, also for another clause of the same decoder, and taken up again by asking for its
    codes anew: what it has said is then read again, and what follows is the same as if it had not been left.
    """

    def __init__(
        self,
        decoder: SpeechDecoder,
        parts: Sequence[NDArray[np.float32]],
        stream: ExactCodecStream | ReferenceCodecStream,
        sample: Sampler,
    ) -> None:
        self._decoder, self._parts, self._stream, self._sample = decoder, list(parts), stream, sample
        self._said: list[int] = []

    def codes(self) -> Generator[int | None, None, None]:
        """Yield the codes that were not said yet, and None where a part ends; each is to be given to :meth:`sound`."""
        while self._parts:
            for code in self._decoder.codes(self._parts[0], self._sample, said=self._said):
                self._said.append(code)
                yield code
            if len(self._said) >= MAX_CODES:
                _log.warning("A clause did not end by itself, and was cut after as much sound as is made at once.")
            del self._parts[0]
            self._said.clear()
            yield None

    def sound(self, code: int | None) -> Samples:
        """What can be heard now that ``code`` is there: float32 [samples], mostly none."""
        pieces = list(self._stream.flush() if code is None else self._stream.step(code))
        return np.concatenate(pieces) if pieces else _NOTHING


_NOTHING = np.zeros(0, np.float32)
