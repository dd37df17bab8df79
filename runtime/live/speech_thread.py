"""The speech thread: clauses in, audio into the playback. It owns the synthesizer of the session, and the pace."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from vita_edge.engines.errors import VitaEdgeError

from ..audio_io.pcm import LeadingSilenceTrim
from ..decoding.sampling import TokenSampler, speech_sampler
from ..events.session_events import BufferChosen, FirstPcm, Span, Stage
from ..session.opened_model import OpenedModel
from ..session.reply_writer import ReadyClause
from ..speech.clause_synthesis import ClauseVoice, Synthesizer
from ..speech.codec_stream import Samples
from .event_bus import EventBus
from .jitter_buffer import Pace, start_buffer
from .live_options import LiveOptions
from .messages import (
    Continue,
    Drop,
    EndOfText,
    Fail,
    GenerationCommand,
    Leave,
    Speak,
    SpeechCommand,
    SpeechProgress,
    Suspend,
)
from .playback import Playback

__all__ = ["SpeechThread"]


class _Clause:
    """One clause while it is spoken; it may be left between two codes and taken up again."""

    def __init__(self, ready: ReadyClause, voice: ClauseVoice) -> None:
        self.ready, self.voice = ready, voice
        self.codes: Generator[int | None, None, None] | None = None
        self.started = False
        self.work_s = self.first_piece_s = 0.0
        self.samples = self.pieces = 0
        self.span_begin_s = 0.0
        self.span_codes = 0

    def leave(self) -> None:
        """Somebody else will be spoken meanwhile."""
        if self.codes is not None:
            self.codes.close()
            self.codes = None


@dataclass
class _Reply:
    """What is to be spoken of one response."""

    number: int
    sample_code: TokenSampler
    clauses: deque[_Clause] = field(default_factory=deque)
    trim: LeadingSilenceTrim = field(default_factory=LeadingSilenceTrim)
    suspended: bool = False
    sounded: bool = False
    """The first audio of it is there."""
    buffer_reported: bool = False
    """It was told why that is held back."""
    clauses_spoken: int = 0
    tokens_spoken: int = 0
    """Tokens whose audio is complete."""
    tokens: int | None = None
    """Tokens of the text, once it is complete."""

    @property
    def ended(self) -> bool:
        return self.tokens is not None and not self.clauses

    @property
    def waits(self) -> bool:
        """Something can be done for it."""
        return not self.suspended and (bool(self.clauses) or self.ended)


class SpeechThread:
    """Speaks the clauses of responses in the order in which they come; those of a suspended one wait.

    Args:
        pace: learns how fast this machine speaks.
        report: where the generation thread hears how it goes.
    """

    def __init__(
        self,
        model: OpenedModel,
        synthesizer: Synthesizer,
        options: LiveOptions,
        playback: Playback,
        pace: Pace,
        emit: EventBus,
        report: Callable[[GenerationCommand], None],
    ) -> None:
        self._model, self._synthesizer, self._options = model, synthesizer, options
        self._playback, self._pace, self._emit, self._report = playback, pace, emit, report
        self._commands: queue.SimpleQueue[SpeechCommand] = queue.SimpleQueue()
        self._replies: dict[int, _Reply] = {}
        self._speaking: _Clause | None = None
        self._leaving = self._resting = False

    def post(self, command: SpeechCommand) -> None:
        """Give a command, from any thread."""
        self._commands.put(command)

    @property
    def resting(self) -> bool:
        """Nothing can be spoken before more is said."""
        return self._resting and self._commands.empty()

    def run(self) -> None:
        """Work until it is told to :class:`Leave`."""
        while not self._leaving:
            reply = next((reply for reply in self._replies.values() if reply.waits), None)
            if reply is not None:
                self._step(reply)
            self._resting = reply is None
            try:
                command = self._commands.get(self._resting)
                while True:
                    self._resting = False
                    self._take(command)
                    command = self._commands.get_nowait()
            except queue.Empty:
                pass

    # --- commands

    def _take(self, command: SpeechCommand) -> None:
        match command:
            case Speak(number, index, ready, token_s):
                reply = self._replies.get(number)
                if reply is None:
                    reply = self._replies[number] = _Reply(
                        number, speech_sampler(self._model.facts.speech, self._options, index)
                    )
                self._pace.token_s = token_s
                reply.clauses.append(_Clause(ready, self._synthesizer.clause(ready.clause, reply.sample_code)))
            case EndOfText(number, tokens, token_s):
                reply = self._replies.get(number)
                if reply is None:  # nothing of it can be spoken
                    self._playback.finish(number)
                    return
                self._pace.token_s, reply.tokens = token_s, tokens
                self._judge_start(reply)
            case Suspend(number) | Continue(number):
                if reply := self._replies.get(number):
                    reply.suspended = isinstance(command, Suspend)
            case Drop(number):
                self._replies.pop(number, None)
            case Leave():
                self._leaving = True

    # --- steps

    def _step(self, reply: _Reply) -> None:
        try:
            if reply.ended:
                self._end(reply)
            else:
                self._speak(reply, reply.clauses[0])
        except VitaEdgeError as error:
            del self._replies[reply.number]
            self._playback.finish(reply.number)
            self._report(Fail(reply.number, error))

    def _speak(self, reply: _Reply, clause: _Clause) -> None:
        """One code of the clause."""
        if self._speaking is not clause and self._speaking is not None:
            self._speaking.leave()  # they share one cache
        self._speaking = clause
        begin_s = monotonic()
        if not clause.started:
            clause.started = True
            self._playback.add_clause(reply.number, clause.ready.clause.written, clause.ready.tokens)
        if clause.codes is None:
            clause.codes, clause.span_begin_s, clause.span_codes = clause.voice.codes(), begin_s, 0
        with self._model.scheduler.step("speech"):
            try:
                code = next(clause.codes)
            except StopIteration:
                self._done(reply, clause)
                return
            decoded_s = monotonic()
            samples = clause.voice.sound(code)
        clause.span_codes += code is not None
        if len(samples):
            self._span(reply, "speech_decoder", clause.span_begin_s, decoded_s, clause.span_codes)
            clause.span_begin_s, clause.span_codes = monotonic(), 0
            self._span(reply, "codec", decoded_s, clause.span_begin_s, len(samples))
        clause.work_s += monotonic() - begin_s
        if len(samples):
            self._add(reply, clause, samples)

    def _add(self, reply: _Reply, clause: _Clause, samples: Samples) -> None:
        clause.pieces += 1
        if clause.pieces == 1:
            clause.first_piece_s = clause.work_s
            self._pace.learn("first_piece_s", clause.work_s)
        elif clause.pieces == 2:
            self._pace.learn("next_piece_s", clause.work_s - clause.first_piece_s)
        clause.samples += len(samples)
        audible = reply.trim.step(samples)
        if len(audible):
            if not reply.sounded:
                reply.sounded = True
                self._emit(FirstPcm(reply.number, monotonic()))
            self._playback.add(reply.number, np.asarray(audible, np.float32))
            self._judge_start(reply)
            self._report(SpeechProgress(reply.number, reply.clauses_spoken))

    def _done(self, reply: _Reply, clause: _Clause) -> None:
        self._span(reply, "speech_decoder", clause.span_begin_s, monotonic(), clause.span_codes)
        tokens = clause.ready.tokens - reply.tokens_spoken
        if clause.samples:
            seconds = clause.samples / self._playback.sample_rate_hz
            self._pace.learn("sound_s", clause.work_s / seconds)
            if tokens > 0:
                self._pace.learn("token_sound_s", seconds / tokens)
                self._pace.learn("clause_tokens", tokens)
        reply.tokens_spoken = clause.ready.tokens
        reply.clauses_spoken += 1
        reply.clauses.popleft()
        self._speaking = None
        self._judge_start(reply)
        self._report(SpeechProgress(reply.number, reply.clauses_spoken))

    def _end(self, reply: _Reply) -> None:
        held = reply.trim.flush()
        if len(held):  # a reply that stayed quiet is played as it is
            self._playback.add(reply.number, held)
        self._playback.finish(reply.number)
        del self._replies[reply.number]

    def _judge_start(self, reply: _Reply) -> None:
        """Say how much must be there before the reply starts, as far as that is known now."""
        number = reply.number
        if self._playback.started(number):
            return
        required = start_buffer(
            self._pace,
            unspoken_tokens=(reply.tokens or 0) - reply.tokens_spoken,
            written=reply.tokens is not None,
            clause_s=self._left_of_clause(reply),
        )
        lead_s = self._playback.lead_s(number)
        if 0 < lead_s < required.seconds and not reply.buffer_reported:
            reply.buffer_reported = True
            self._emit(BufferChosen(number, required.seconds, required.why))
        self._playback.start_with(number, required.seconds)

    def _left_of_clause(self, reply: _Reply) -> float:
        """Seconds that are still to be made of the clause that is being spoken, by its tokens; 0 between clauses."""
        clause = self._speaking
        if clause is None or not reply.clauses or reply.clauses[0] is not clause:
            return 0.0
        tokens = clause.ready.tokens - reply.tokens_spoken
        made_s = clause.samples / self._playback.sample_rate_hz
        return max(tokens * self._pace.token_sound_s - made_s, 0.0)

    def _span(self, reply: _Reply, stage: Stage, begin_s: float, end_s: float, count: int) -> None:
        if count:
            self._emit(Span(reply.number, stage, begin_s, end_s, count))
