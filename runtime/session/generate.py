"""One response, made step by step: the turn is encoded and read, tokens are decoded, clauses are spoken.

:func:`write_reply` is the one decode loop of the runtime. :class:`Generation` puts speech behind it, clause by clause,
for whoever has one thread; a live session runs both at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import ContextOverflow, Misuse

from ..audio_io.pcm import LeadingSilenceTrim, to_pcm16, trim_leading_silence
from ..decoding.logits_processors import LogitsProcessor
from ..decoding.sampling import Logits, speech_sampler, text_sampler
from ..decoding.top_k_logits import row_of
from ..events.reply_events import Event, Reply, SpeechPiece, State, TextPiece, TurnDone
from ..events.turn_clock import TurnClock
from ..speech.clause_synthesis import ClauseVoice, Synthesizer
from ..speech.codec_stream import Samples
from ..text.prompt import continuation, encode_prompt, opening, system_prompt
from .history import History, SettledTurn
from .open_turn import OpenTurn
from .opened_model import OpenedModel
from .options import SessionOptions
from .reply_writer import ReadyClause, ReplyWriter, Written
from .response_table import AudioDone, Begin, CancelCue, FailCue, FirstToken, Ignored, ResponseMachine, TextDone
from .scheduler import Lane

__all__ = ["Generation", "Step", "write_reply"]

Step: TypeAlias = Event | ReadyClause | None
"""What a step of a response gives: an event, a clause where somebody else speaks, or nothing yet."""


def write_reply(tokens: Iterator[int], writer: ReplyWriter) -> Iterator[list[Written]]:
    """The decode loop: for every token what it completes (state, text, clauses), and at the end what was held back."""
    if not writer.finished:  # it may be left between its last token and its end
        for token in tokens:
            yield list(writer.step(token))
            if writer.finished:
                break
    yield list(writer.flush())


@dataclass
class _Spoken:
    """A clause, and how much of it was handed out."""

    written: str
    end_token: int
    samples: int = 0


@dataclass
class _Clause:
    ready: ReadyClause
    voice: ClauseVoice
    spoken: _Spoken


class Generation:
    """The work of one response. One thread at a time steps it; it may be left at any step, and resumed.

    Args:
        index: responses that the history was given before; with the seed it makes what is drawn.
        synthesizer: speaks the clauses; None hands them out as :class:`ReadyClause` to whoever does.
        turn: what is answered.
        instructions: text of the system prompt; None takes the one that the model was trained to see before such a
        turn.
        logits_processors: behind the repetition penalty; see :mod:`~vita_edge.runtime.decoding.logits_processors`.
    """

    def __init__(
        self,
        model: OpenedModel,
        history: History,
        synthesizer: Synthesizer | None,
        options: SessionOptions,
        turn: OpenTurn,
        index: int,
        instructions: str | None,
        logits_processors: Sequence[LogitsProcessor] = (),
        clock: TurnClock | None = None,
    ) -> None:
        self._model, self._history, self._synthesizer, self._options = model, history, synthesizer, options
        self.turn, self._instructions = turn, instructions
        self.index = index
        self.machine = ResponseMachine()
        self.lane: Lane = "language"
        """Which graphs the next step runs."""
        self.clock = clock or TurnClock()
        self.settled: SettledTurn | None = None
        """The turn in the history, once it is over and remembered."""
        self.prompt_tokens = 0
        asked: State = "speech" if turn.spoken else "text"
        facts = model.facts
        self.writer = ReplyWriter(
            model.tokenizer,
            facts,
            asked,
            options.style,
            stop_strings=options.stop,
        )
        self._sample = text_sampler(facts.llm, options, index, logits_processors)
        self._sample_code = speech_sampler(facts.speech, options, index)
        self._trim = LeadingSilenceTrim()
        self._clauses: deque[_Clause] = deque()
        self._spoken: list[_Spoken] = []
        self._waiting: deque[Written] = deque()
        """Written, and not handed out yet."""
        self._text_done = False
        self._pcm: list[NDArray[np.int16]] = []

    def steps(self) -> Generator[Step, None, None]:
        """Make the response; at most one call of each graph for each step, and None where there is nothing yet.

        However it ends, the history is left in order: a reply that was begun stays as far as it was decoded, a turn
        that failed or was taken for noise leaves no trace.
        """
        self.machine.step(Begin())
        try:
            yield from self._reply((yield from self._read_turn()))
            self._settle()
        except GeneratorExit:
            self._leave(CancelCue())
            raise
        except BaseException:
            self._leave(FailCue())
            raise
        self.clock.mark("total")
        yield TurnDone(self.reply())

    def go_on(self) -> Generator[Step, None, None]:
        """Go on where the response was left; what was handed out is not handed out again."""
        assert self.settled is not None
        settled, self.settled = self.settled, None
        stored: int | None = len(settled.turn.reply)
        self.machine.step(Begin())
        self.machine.step(FirstToken())
        timeline = self._history.timeline
        try:
            steps = self._history.resume(settled, read=not self._text_done)
            logits = yield from self.clock.timed("prefill", steps, lambda: timeline.tokens_read)
            stored = None
            yield from self._reply(logits)
            self._settle()
        except GeneratorExit:
            self._leave(CancelCue(), stored)
            raise
        except BaseException:
            self._leave(FailCue())
            raise
        yield TurnDone(self.reply())

    def reply(self) -> Reply:
        """What there is of it."""
        writer = self.writer
        return Reply(
            state=writer.state,
            state_marked=writer.marked,
            text=writer.text.strip(),
            token_ids=tuple(writer.token_ids),
            pcm=np.concatenate(self._pcm) if self._pcm else np.zeros(0, np.int16),
            sample_rate_hz=self._model.facts.codec.sample_rate_hz,
            finish_reason=self.machine.finish_reason or "cancelled",
            prompt_tokens=self.prompt_tokens,
            latency_ms=self.clock.latency_ms(),
        )

    def tokens_heard(self, samples: int) -> int:
        """Tokens of the reply that the first ``samples`` of its audio say: of the last clause its share."""
        begin = heard = 0
        for clause in self._spoken:
            if samples < clause.samples:
                return begin + (clause.end_token - begin) * samples // clause.samples
            if clause.samples:
                samples, heard = samples - clause.samples, clause.end_token
            begin = clause.end_token
        return heard

    # --- the turn

    def _read_turn(self) -> Generator[None, None, Logits]:
        with self.clock.span("prompt"):
            self._check_room()
        yield from self.turn.encode(self.clock)
        timeline = self._history.timeline
        before = timeline.tokens_read
        logits = yield from self.clock.timed(
            "prefill", self._history.read_turn(self.turn.content()), lambda: timeline.tokens_read
        )
        self.prompt_tokens = timeline.tokens_read - before
        return logits

    def _check_room(self) -> None:
        """What the turn takes is known before anything is encoded, which takes time."""
        if self.turn.empty:
            raise Misuse(
                "The turn is empty.", why="There is nothing to answer.", fix="Give a text, a sound or a picture."
            )
        history, model, style = self._history, self._model, self._options.style
        counted = self.turn.counted()
        if not history.turns:
            history.trained_instructions = system_prompt(model.prompts, style, counted)
        history.instructions = history.trained_instructions if self._instructions is None else self._instructions
        positions = self._positions()
        limit = model.facts.llm.prompt_limit_tokens
        if positions > limit:
            raise ContextOverflow(
                f"The turn takes {positions:,} tokens; a prompt may have {limit:,}.",
                why="The model was trained for prompts of that length (the reference would cut off the end, unasked).",
                fix="Shorten the text or the sound, or give fewer pictures.",
            )
        try:
            history.check_room(positions)
        except ContextOverflow:
            if self._options.when_full == "refuse" or not history.drop_turns():
                raise
            history.check_room(self._positions())

    def _positions(self) -> int:
        counted, style = self.turn.counted(), self._options.style
        parts = (
            continuation(counted, style) if self._history.turns else opening(self._history.instructions, counted, style)
        )
        marks = counted.tiles + counted.frames + counted.clips
        text = len(encode_prompt(parts, self._model.tokenizer)) - marks
        return text + self.turn.media_tokens(self._model.facts.vision.tokens_per_tile)

    # --- the reply

    def _reply(self, logits: Logits | None) -> Iterator[Step]:
        writer, options = self.writer, self._options
        if logits is not None and (self._waiting or self._clauses):
            logits = row_of(logits)  # other calls come before a token is chosen from it
        if self._waiting:
            yield from self._hand_out([])
        yield from self._speak()
        if not self._text_done:
            assert logits is not None
            left = options.max_new_tokens - len(writer.token_ids)
            tokens = self._history.decode(logits, writer.choose(self._sample), left, writer.stop)
            for written in write_reply(self.clock.timed("decode", tokens), writer):
                self.machine.step(FirstToken())
                self._text_done = writer.flushed
                yield from self._hand_out(written)
                yield from self._speak()
        self.machine.step(TextDone("stop" if writer.finished else "length"))
        yield from self._sound(self._trim.flush(), None)
        self.machine.step(Ignored() if writer.state == "noise" else AudioDone())

    def _hand_out(self, written: list[Written]) -> Iterator[Step]:
        self._waiting.extend(written)
        if not self._waiting:
            yield None
        while self._waiting:
            event = self._waiting.popleft()
            if isinstance(event, TextPiece):
                self.clock.mark("first_text")
            if not isinstance(event, ReadyClause):
                yield event
            elif self.writer.state != "noise" and self._options.speak:
                if self._synthesizer is None:
                    yield event
                else:
                    self._queue(event, self._synthesizer)

    def _queue(self, ready: ReadyClause, synthesizer: Synthesizer) -> None:
        voice = synthesizer.clause(ready.clause, self._sample_code, self._options.streaming)
        self._spoken.append(_Spoken(ready.clause.written, ready.tokens))
        self._clauses.append(_Clause(ready, voice, self._spoken[-1]))

    def _speak(self) -> Iterator[Step]:
        """Speak the clauses that wait; one that is left in the middle stays first."""
        while self._clauses:
            clause = self._clauses[0]
            self.lane = "speech"
            yield None
            for code in self.clock.timed("speech_decoder", clause.voice.codes()):
                with self.clock.span("codec"):
                    samples = clause.voice.sound(code)
                if self._options.streaming == "exact":
                    samples = self._trim.step(samples)
                elif clause.ready.clause.trim:
                    samples = trim_leading_silence(samples)
                yield from self._sound(samples, clause.spoken)
            self._clauses.popleft()
            self.lane = "language"
            yield None  # the next token belongs to the other lane

    def _sound(self, samples: Samples, spoken: _Spoken | None) -> Iterator[Step]:
        if not len(samples):
            yield None
            return
        self.clock.mark("first_audio")
        self._pcm.append(to_pcm16(samples))
        spoken = spoken or self._spoken[-1]
        spoken.samples += len(samples)
        yield SpeechPiece(self._pcm[-1], self._model.facts.codec.sample_rate_hz, spoken.written)

    # --- its end

    def _settle(self) -> None:
        if self.writer.state == "noise":  # what was not meant for us is not remembered
            self._history.forget()
        else:
            self.settled = self._history.settle()

    def _leave(self, cue: CancelCue | FailCue, stored: int | None = None) -> None:
        """It ends before it is complete; of its reply the first ``stored`` ids stay, or all."""
        noise = self.writer.state == "noise"
        self.machine.step(Ignored() if noise and isinstance(cue, CancelCue) else cue)
        if isinstance(cue, FailCue) or noise or not self.writer.token_ids:
            self._history.forget()
        else:
            self.settled = self._history.settle(stored)
