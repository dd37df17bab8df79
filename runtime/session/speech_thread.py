"""The speaking thread: clauses in, sound into the playback. It owns the speech decoder and the codec of the talk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

import numpy as np

from vita_edge.engines.errors import VitaEdgeError

from ..events.session_events import BufferChosen, FirstPcm, Span, Stage
from ..speech.clause_synthesis import ClauseVoice, Synthesizer
from ..speech.codec_stream import Samples
from .attempt import Announcer, Attempt
from .jitter_buffer import Pace, start_buffer
from .playback import Playback
from .reply_writer import ReadyClause

__all__ = ["Mouth"]


class _Speech:
    """One clause while it is spoken; it may be left between two codes and taken up again."""

    def __init__(self, attempt: Attempt, ready: ReadyClause, voice: ClauseVoice) -> None:
        self.attempt, self.ready, self.voice = attempt, ready, voice
        self.begun = False
        self.work_s = 0.0
        self.samples = self.pieces = 0
        self.first_piece_s = 0.0


class Mouth:
    """Speaks the clauses of attempts in the order in which they are said; those of a suspended attempt wait.

    Args:
        pace: learns how fast this machine speaks.
        got_on: called when sound was added or a clause is done.
        failed: told of an attempt that cannot be spoken, which is then cancelled.
    """

    def __init__(
        self,
        voice: Synthesizer,
        playback: Playback,
        pace: Pace,
        tell: Announcer,
        got_on: Callable[[], None],
        failed: Callable[[Attempt, VitaEdgeError], None],
    ) -> None:
        self._voice, self._playback, self._pace, self._tell = voice, playback, pace, tell
        self._got_on, self._failed = got_on, failed
        self._queue: deque[_Speech | Attempt] = deque()
        """Clauses; an attempt itself stands for the end of its reply."""
        self._changed = threading.Condition()
        self._leaving = self._resting = False
        self._speaking: _Speech | None = None
        self._spoken: dict[int, int] = {}
        """Tokens of each reply whose sound is complete."""

    def say(self, attempt: Attempt, ready: ReadyClause) -> None:
        """Speak a clause after those that were said before it."""
        voice = self._voice.clause(ready.clause, attempt.sample_code)
        with self._changed:
            self._queue.append(_Speech(attempt, ready, voice))
            self._changed.notify_all()

    def end(self, attempt: Attempt) -> None:
        """No clause will follow."""
        with self._changed:
            self._queue.append(attempt)
            self._changed.notify_all()

    def look_again(self) -> None:
        """Flags of an attempt have changed."""
        with self._changed:
            self._changed.notify_all()

    @property
    def resting(self) -> bool:
        """Nothing can be spoken before more is said."""
        with self._changed:
            return self._resting and all(_attempt(each).stopped for each in self._queue)

    def leave(self) -> None:
        """End :meth:`run` within a step."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()

    def busy_with(self, attempt: Attempt) -> bool:
        """Whether clauses of ``attempt`` wait to be spoken."""
        with self._changed:
            return any(isinstance(each, _Speech) and each.attempt is attempt for each in self._queue)

    def run(self) -> None:
        """Speak until :meth:`leave`."""
        while (entry := self._next()) is not None:
            try:
                if isinstance(entry, Attempt):
                    self._end(entry)
                else:
                    self._speak(entry)
            except VitaEdgeError as error:
                _attempt(entry).cancelled = True
                self._playback.finish(_attempt(entry).turn)
                self._failed(_attempt(entry), error)

    def _next(self) -> _Speech | Attempt | None:
        """Wait for what can be spoken; it stays in the queue until it is done."""
        with self._changed:
            while not self._leaving:
                self._queue = deque(each for each in self._queue if not _attempt(each).cancelled)
                for each in self._queue:
                    if not _attempt(each).suspended:
                        return each
                self._resting = True
                self._changed.wait()
                self._resting = False
        return None

    def _done(self, entry: _Speech | Attempt) -> None:
        with self._changed:
            if entry in self._queue:
                self._queue.remove(entry)

    def _speak(self, speech: _Speech) -> None:
        attempt, ready = speech.attempt, speech.ready
        turn = attempt.turn
        self._speaking = speech
        if not speech.begun:
            speech.begun = True
            self._playback.add_clause(turn, ready.clause.written, ready.tokens)
        begin_s = monotonic()
        for samples in self._timed(turn, speech):
            if len(samples):
                self._add(attempt, speech, samples, speech.work_s + monotonic() - begin_s)
            if attempt.stopped or self._leaving:
                speech.work_s += monotonic() - begin_s
                return
        speech.work_s += monotonic() - begin_s
        if speech.samples:
            seconds = speech.samples / self._playback.sample_rate_hz
            self._pace.learn("sound_s", speech.work_s / seconds)
            tokens = ready.tokens - self._spoken.get(turn, 0)
            if tokens > 0:
                self._pace.learn("token_sound_s", seconds / tokens)
                self._pace.learn("clause_tokens", tokens)
        self._spoken[turn] = ready.tokens
        self._speaking = None
        self._done(speech)
        self.judge_start(attempt)
        self._got_on()

    def _add(self, attempt: Attempt, speech: _Speech, samples: Samples, after_s: float) -> None:
        speech.pieces += 1
        if speech.pieces == 1:
            speech.first_piece_s = after_s
            self._pace.learn("first_piece_s", after_s)
        elif speech.pieces == 2:
            self._pace.learn("next_piece_s", after_s - speech.first_piece_s)
        speech.samples += len(samples)
        audible = attempt.trim.step(samples)
        if len(audible):
            if not attempt.sounded:
                attempt.sounded = True
                self._tell(FirstPcm(attempt.turn, monotonic()))
            self._playback.add(attempt.turn, np.asarray(audible, np.float32))
            self.judge_start(attempt)
            self._got_on()

    def _end(self, attempt: Attempt) -> None:
        held = attempt.trim.finish()
        if len(held):  # a reply that stayed quiet is played as it is
            self._playback.add(attempt.turn, held)
        self._playback.finish(attempt.turn)
        self._spoken.pop(attempt.turn, None)
        self._done(attempt)

    def judge_start(self, attempt: Attempt) -> None:
        """Say how much must be there before the reply starts, as far as that is known now; from any thread."""
        turn = attempt.turn
        if self._playback.started(turn):
            return
        unspoken = len(attempt.writer.token_ids) - self._spoken.get(turn, 0)
        wanted = start_buffer(
            self._pace, unspoken_tokens=unspoken, written=attempt.written, clause_s=self._left_of_clause(attempt)
        )
        lead_s = self._playback.lead_s(turn)
        if 0 < lead_s < wanted.seconds and not attempt.buffer_told:
            attempt.buffer_told = True
            self._tell(BufferChosen(turn, wanted.seconds, wanted.why))
        self._playback.start_with(turn, wanted.seconds)

    def _left_of_clause(self, attempt: Attempt) -> float:
        """Seconds that are still to be made of the clause that is being spoken, by its tokens; 0 between clauses."""
        speech = self._speaking
        if speech is None or speech.attempt is not attempt:
            return 0.0
        tokens = speech.ready.tokens - self._spoken.get(attempt.turn, 0)
        made_s = speech.samples / self._playback.sample_rate_hz
        return max(tokens * self._pace.token_sound_s - made_s, 0.0)

    def _timed(self, turn: int, speech: _Speech) -> Iterator[Samples]:
        """Yield the sound of every code, mostly none; tell the work of both stages piece by piece."""
        codes, begin_s = 0, monotonic()
        for code in speech.voice.codes():
            codes += code is not None
            decoded_s = monotonic()
            samples = speech.voice.sound(code)
            if len(samples):
                self._told(turn, "speech_decoder", begin_s, decoded_s, codes)
                codes, begin_s = 0, monotonic()
                self._told(turn, "codec", decoded_s, begin_s, len(samples))
            yield samples
        self._told(turn, "speech_decoder", begin_s, monotonic(), codes)

    def _told(self, turn: int, stage: Stage, begin_s: float, end_s: float, count: int) -> None:
        if count:
            self._tell(Span(turn, stage, begin_s, end_s, count))


def _attempt(entry: _Speech | Attempt) -> Attempt:
    return entry if isinstance(entry, Attempt) else entry.attempt
