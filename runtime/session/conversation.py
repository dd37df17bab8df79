"""A conversation: turns in; state, text and sound out, as they come.

The KV cache is the conversation's memory: it holds system prompt, questions and replies in the order in which they
happened, pictures and sounds included, and a new turn computes nothing but itself. A turn that fails, or that the model
takes for noise, is rewound and leaves no trace.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import ModelFacts
from vita_edge.engines.errors import BadInput, ContextOverflow, Misuse

from ..audio_io.pcm import LeadingSilenceTrim, to_pcm16, trim_leading_silence
from ..decoding.kv_timeline import Timeline
from ..decoding.language_model import LanguageModel
from ..decoding.sampling import Logits, make_sampler, make_speech_sampler
from ..decoding.segments import Rows, Segment, segments
from ..encoders.encoders import Encoders
from ..events.reply_events import Event, Reply, SpeechPiece, State, TextPiece, TurnDone
from ..events.turn_clock import TurnClock
from ..speech.clause_synthesis import Voice
from ..speech.codec_stream import Samples
from ..text.prompt import PromptPart, UserTurn, continuation, encode_prompt, opening, system_prompt
from ..text.tokenizer import Tokenizer
from .reply_writer import ReadyClause, ReplyWriter, Written
from .turn import Options, Turn

__all__ = ["Conversation"]


class Conversation:
    """One conversation; made by :meth:`Assistant.conversation`. Not for use by several threads at once."""

    def __init__(
        self,
        language_model: LanguageModel,
        encoders: Encoders,
        voice: Voice,
        tokenizer: Tokenizer,
        facts: ModelFacts,
        prompts: Mapping[str, Mapping[str, str]],
        options: Options,
    ) -> None:
        if options.speak:
            voice.check()
        self._timeline = Timeline(language_model)
        self._encoders, self._voice = encoders, voice
        self._tokenizer, self._facts, self._prompts, self._options = tokenizer, facts, prompts, options
        self.turns = 0
        """Turns in the cache."""
        self._answering: Callable[[], Generator[Event] | None] = lambda: None
        self._make_samplers()

    @property
    def tokens(self) -> int:
        """Positions of the context in use."""
        return self._timeline.position

    @property
    def capacity_tokens(self) -> int:
        """Positions that the context has room for."""
        return self._timeline.model.cache.capacity_tokens

    @property
    def cache_bytes(self) -> int:
        """Memory of a full context; pages are taken as positions are written."""
        return self._timeline.model.cache.nbytes

    def reset(self) -> None:
        """Forget everything, as before the first turn."""
        self._stop_answering()
        self._return_to(0, 0)

    def ask(self, turn: Turn) -> Reply:
        """Answer ``turn`` and return when all of it is there."""
        for event in self.answer(turn):
            if isinstance(event, TurnDone):
                return event.reply
        raise AssertionError("a turn ends with TurnDone")

    def answer(self, turn: Turn) -> Generator[Event]:
        """Answer ``turn``, handing out state, text and sound as they come; the last event is :class:`TurnDone`.

        Leaving the loop early is fine: the conversation then remembers what had been decoded so far. A turn that is
        still being answered when the next one is asked ends there.

        Raises, when the first event is asked for:
            Misuse: the turn is empty.
            BadInput: a sound or picture cannot be used.
            ContextOverflow: the turn does not fit; the conversation is as it was.
        """
        self._stop_answering()
        events = self._answer(turn)
        self._answering = weakref.ref(events)  # weak, so that leaving a loop ends its turn at once
        return events

    def _answer(self, turn: Turn) -> Generator[Event]:
        clock = TurnClock()
        before = self._timeline.position, self.turns
        asked: State = "speech" if turn.sounds else "text"
        options = self._options
        writer = ReplyWriter(self._tokenizer, self._facts, asked, options.style)
        pcm: list[NDArray[np.int16]] = []
        remembered = False
        try:
            parts = self._read(turn, clock)
            begin = self._timeline.model.position
            with clock.span("prefill"):
                logits = self._timeline.append(parts)
            prompt_tokens = self._timeline.position - begin
            self._make_samplers()
            self.turns, remembered = self.turns + 1, True
            yield from self._decode(logits, writer, pcm, clock)
        except Exception:
            remembered = False
            raise
        finally:
            if not remembered or writer.state == "noise":  # what was not meant for us is not remembered
                self._return_to(*before)
        clock.mark("total")
        yield TurnDone(
            Reply(
                state=writer.state,
                state_marked=writer.marked,
                text=writer.text.strip(),
                token_ids=tuple(writer.token_ids),
                pcm=np.concatenate(pcm) if pcm else np.zeros(0, np.int16),
                sample_rate_hz=self._facts.codec.sample_rate_hz,
                finished=writer.finished,
                prompt_tokens=prompt_tokens,
                latency_ms=clock.latency_ms(),
            )
        )

    def _stop_answering(self) -> None:
        """End the turn whose events somebody still holds: it must not touch the cache of a later one."""
        if events := self._answering():
            events.close()

    def _return_to(self, position: int, turns: int) -> None:
        self._timeline.rewind(position)
        self.turns = turns

    def _make_samplers(self) -> None:
        """Anew for every turn, so that what is drawn depends on the seed and the turn's number and nothing else."""
        options = self._options
        seed = options.seed + (self.turns << 64)
        self._sample = make_sampler(options.top_k, options.temperature, seed)
        self._sample_code = make_speech_sampler(self._facts.speech, options.speech_top_k, seed)

    def _read(self, turn: Turn, clock: TurnClock) -> list[Segment]:
        """Everything of a turn, ready to be read by the language model.

        What it will take is known before anything is encoded, which takes time.
        """
        if not (turn.text.strip() or turn.sounds or turn.images or turn.frames):
            raise Misuse(
                "The turn is empty.", why="There is nothing to answer.", fix="Give a text, a sound or a picture."
            )
        _check_text(turn.text)
        encoders, style, max_tiles = self._encoders, self._options.style, self._options.max_tiles
        with clock.span("prompt"):
            tiles = sum(encoders.tiles(image, style, max_tiles=max_tiles) for image in turn.images)
            counted = UserTurn(turn.text, tiles, len(turn.frames), len(turn.sounds))
            ids = encode_prompt(self._parts(counted), self._tokenizer)
            positions = len(ids) + (tiles + len(turn.frames)) * (self._facts.vision.tokens_per_tile - 1)
            positions += sum(encoders.clip_positions(sound) - 1 for sound in turn.sounds)
            self._check_length(positions)
        pictures: list[Rows] = []
        clips: list[Rows] = []
        for image in turn.images:
            with clock.span("vision"):
                pictures += encoders.see(image, style, max_tiles=max_tiles)
        if turn.frames:
            with clock.span("vision"):
                pictures += encoders.watch(turn.frames, style)
        for sound in turn.sounds:
            with clock.span("audio"):
                clips.append(encoders.hear(sound))
        return segments(ids, pictures, clips)

    def _parts(self, turn: UserTurn) -> list[PromptPart]:
        if self.turns:
            return continuation(turn, self._options.style)
        return opening(system_prompt(self._prompts, self._options.style, turn), turn, self._options.style)

    def _check_length(self, positions: int) -> None:
        limit = self._facts.llm.prompt_limit_tokens
        if positions > limit:
            raise ContextOverflow(
                f"The turn takes {positions:,} positions; a prompt may have {limit:,}.",
                why="The model was trained for prompts of that length (the reference would cut off the end, unasked).",
                fix="Shorten the text or the sound, or give fewer pictures.",
            )
        self._timeline.check_room(positions)

    def _decode(
        self, logits: Logits, writer: ReplyWriter, pcm: list[NDArray[np.int16]], clock: TurnClock
    ) -> Iterator[Event]:
        most = min(self._options.max_new_tokens, self._timeline.room + 1)  # the last token need not be in the cache
        trim = LeadingSilenceTrim()
        tokens = self._timeline.decode(logits, writer.choose(self._sample), most, writer.stop)
        for token in clock.timed("decode", tokens):
            yield from self._hand_out(writer.step(token), writer, trim, pcm, clock)
        yield from self._hand_out(writer.finish(), writer, trim, pcm, clock)
        yield from self._sound(trim.finish(), "", pcm, clock)

    def _hand_out(
        self,
        written: Iterator[Written],
        writer: ReplyWriter,
        trim: LeadingSilenceTrim,
        pcm: list[NDArray[np.int16]],
        clock: TurnClock,
    ) -> Iterator[Event]:
        """Text as it is written; a clause as its sound."""
        options = self._options
        for event in written:
            if not isinstance(event, ReadyClause):
                if isinstance(event, TextPiece):
                    clock.mark("first_text")
                yield event
            elif options.speak and writer.state != "noise":
                for samples in self._voice.speak(event.clause, self._sample_code, options.streaming, clock):
                    if options.streaming == "exact":
                        samples = trim.step(samples)
                    elif event.clause.trim:
                        samples = trim_leading_silence(samples)
                    yield from self._sound(samples, event.clause.written, pcm, clock)

    def _sound(
        self, samples: Samples, written: str, pcm: list[NDArray[np.int16]], clock: TurnClock
    ) -> Iterator[SpeechPiece]:
        if len(samples):
            clock.mark("first_audio")
            pcm.append(to_pcm16(samples))
            yield SpeechPiece(pcm[-1], self._voice.sample_rate_hz, written)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            "The text is not valid Unicode.",
            why=f"Character {error.start + 1} is half of a pair, or a byte that is not UTF-8.",
            fix="Give the text as UTF-8.",
        ) from error
