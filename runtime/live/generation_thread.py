"""The generation thread: reads ahead while the user speaks, decodes responses, and lets old turns leave in idle time.

It owns the session. Everything that it does is cut into steps of one call of a graph or less; between two steps it
takes commands, so that an interruption stops it within one step.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import VitaEdgeError

from ..decoding.segments import Rows
from ..encoders.camera import FrameSource
from ..encoders.picture_array import as_picture
from ..encoders.scene_gate import SceneGate
from ..events.reply_events import FinishReason, StateDecided, TextPiece, TurnDone
from ..events.session_events import FrameSeen, HistoryShortened, StateTold, Trouble, TurnEnded, TurnForgotten, Written
from ..session.generate import Step
from ..session.reply_writer import ReadyClause
from ..session.response import Response
from ..session.session import Session
from ..turns.turn_events import AddresseeDecided, ResponseFailed, TurnEvent
from .event_bus import EventBus, StageClock
from .jitter_buffer import smoothed
from .live_options import LiveOptions
from .messages import (
    Cancel,
    ClearHistory,
    Commit,
    ContinueReply,
    Drop,
    EndOfText,
    Fail,
    ForgetInput,
    ForgetInterrupted,
    GenerationCommand,
    GenerationReport,
    KeepHeard,
    Leave,
    ReadAhead,
    ReplySettled,
    Respond,
    SetInstructions,
    SettleTurn,
    Speak,
    SpeechCommand,
    SpeechProgress,
    TextComplete,
    UserSilent,
)
from .playback import Playback

__all__ = ["GenerationThread"]

IDLE_S = 0.02
"""How long commands are waited for before it is looked again whether there is something to do."""
FRAME_S = 1.0
"""Between two frames of a turn."""
LEAD_S = 0.3
"""Audio that is ahead of what is heard, below which speech goes before the text."""
SLICE_S = 0.05
"""Reading old turns again is cut into slices of about this length."""
MIN_SLICE, MAX_SLICE = 8, 512


class _Answer:
    """A response while this thread has it."""

    def __init__(self, number: int, response: Response) -> None:
        self.number, self.response = number, response
        self.committed = False
        """The user has finished."""
        self.handed = self.spoken = 0
        """Clauses that the speech thread was given, and those that it has spoken."""


class GenerationThread:
    """Generates. Other threads :meth:`post` commands.

    Args:
        hear: what the user has said from a moment on, float32 [n] at 16 kHz.
        speak: where clauses go.
        report: where the control thread hears how it goes.
        camera: if there is one.

    Attributes:
        token_s: seconds that a token takes, as far as that is known.
    """

    def __init__(
        self,
        session: Session,
        options: LiveOptions,
        playback: Playback,
        emit: EventBus,
        hear: Callable[[float], NDArray[np.float32]],
        speak: Callable[[SpeechCommand], None],
        report: Callable[[TurnEvent | GenerationReport], None],
        camera: FrameSource | None = None,
    ) -> None:
        self._session, self._options, self._playback, self._emit = session, options, playback, emit
        self._hear, self._speak, self._report, self._camera = hear, speak, report, camera
        self.token_s = 0.0
        self._commands: queue.SimpleQueue[GenerationCommand] = queue.SimpleQueue()
        self._leaving = self._resting = False
        self._answers: dict[int, _Answer] = {}
        """Responses that are not over: the newest, and one that is suspended."""
        self._answer: _Answer | None = None
        """The one that is being made."""
        self._newest = 0
        self._suspended = False
        self._speech_begin_s: float | None = None
        """Since when the user speaks; None while nobody is heard."""
        self._heard_since_s = 0.0
        """When the newest speech began, over or not."""
        self._audio_was_read = self._user_is_silent = False
        self._next_frame_s = self._next_listen_s = 0.0
        self._slice = 32
        self._scene = SceneGate(options.same_scene)
        self._seen: Rows | None = None
        """The newest frame that was encoded."""
        self._clock = StageClock(emit, None)
        """For work that belongs to no response yet."""

    def post(self, command: GenerationCommand) -> None:
        """Give a command, from any thread."""
        self._commands.put(command)

    @property
    def resting(self) -> bool:
        """Nothing can be done before something more is ordered, heard or played."""
        return self._resting and self._commands.empty()

    def run(self) -> None:
        """Work until it is told to :class:`Leave`."""
        while not self._leaving:
            self._resting = not self._step()
            wait_s = IDLE_S if self._answer or self._speech_begin_s is not None else None
            try:
                command = self._commands.get(self._resting, wait_s)
                while True:
                    self._resting = False
                    self._take(command)
                    command = self._commands.get_nowait()
            except queue.Empty:
                pass

    # --- commands

    def _take(self, command: GenerationCommand) -> None:
        match command:
            case ReadAhead(begin_s):
                self._speech_begin_s = self._heard_since_s = begin_s
                self._audio_was_read = False
                self._next_frame_s = self._next_listen_s = 0.0
            case ForgetInput():
                self._speech_begin_s = None
                self._session.clear()
            case UserSilent(silent):
                self._user_is_silent = silent
            case Respond(number, audio):
                self._respond(number, audio)
            case Commit(number):
                if answer := self._answers.get(number):
                    answer.committed = True
            case Cancel(number, why):
                if answer := self._answers.pop(number, None):
                    self._cancel(answer, resumed=why in ("resumed", "withdrawn"))
                    self._speak(Drop(number))  # behind what was handed over last
                    self._emit(TurnForgotten(number, monotonic(), why))
            case KeepHeard(number, heard):
                if answer := self._answers.get(number):
                    self._interrupt(answer, heard)
            case ContinueReply(number):
                if answer := self._answers.get(number):
                    self._suspended = False
                    try:
                        answer.response = self._session.resume(answer.response)
                    except VitaEdgeError as error:  # old turns had to leave meanwhile, and this one with them
                        self._fail(number, error)
                    else:
                        self._answer = answer
            case ForgetInterrupted(number):
                self._suspended = False
                self._end(number, "interrupted")
            case SettleTurn(number):
                self._end(number, None)
            case SpeechProgress(number, spoken):
                if answer := self._answers.get(number):
                    answer.spoken = spoken
            case Fail(number, error):
                self._fail(number, error)
            case SetInstructions(instructions):
                self._session.instructions = instructions
            case ClearHistory():
                self._answers.clear()
                self._answer, self._speech_begin_s, self._suspended = None, None, False
                self._session.reset()
            case Leave():
                self._leaving = True

    def _respond(self, number: int, audio: NDArray[np.float32]) -> None:
        self._speech_begin_s = None
        self._newest = number
        try:
            self._session.hear(audio)
            response = self._session.start(self._options, speech=False, clock=StageClock(self._emit, number))
        except VitaEdgeError as error:
            self._session.clear()
            self._fail(number, error)
            return
        self._answer = self._answers[number] = _Answer(number, response)

    def _cancel(self, answer: _Answer, *, resumed: bool) -> None:
        self._stop(answer)
        if answer.number != self._newest:
            return
        if resumed:
            self._session.reopen()
            self._speech_begin_s = self._heard_since_s
        else:
            self._session.discard()
            self._session.clear()

    def _interrupt(self, answer: _Answer, heard: int) -> None:
        self._stop(answer)
        answer.response.cancel()
        written = len(answer.response.generation.writer.token_ids)
        heard = self._session.truncate(tokens=min(heard, written))
        self._suspended = True
        self._report(ReplySettled(answer.number, heard, written))

    def _end(self, number: int, reason: FinishReason | None) -> None:
        if answer := self._answers.pop(number, None):
            self._stop(answer)
            self._speak(Drop(number))
            writer, response = answer.response.generation.writer, answer.response
            reason = reason or response.finish_reason or "cancelled"
            self._emit(TurnEnded(number, monotonic(), writer.state, writer.text.strip(), reason))

    def _fail(self, number: int, error: VitaEdgeError) -> None:
        """The response leaves no trace, and the session goes on."""
        answer = self._answers.pop(number, None)
        if answer is not None:
            self._stop(answer)
            answer.response.cancel()
            self._speak(Drop(number))
            if number == self._newest:
                self._session.discard()
        self._emit(Trouble(monotonic(), error.what, error.why, error.fix))
        self._emit(TurnForgotten(number, monotonic(), "failed"))
        self._report(ResponseFailed(number))

    def _stop(self, answer: _Answer) -> None:
        if self._answer is answer:
            self._answer = None

    # --- steps

    def _step(self) -> bool:
        """Do a little of what is most urgent; False when there is nothing to do just now."""
        if (answer := self._answer) is not None:
            try:
                return self._generate(answer)
            except VitaEdgeError as error:
                self._fail(answer.number, error)
            return True
        try:
            if self._speech_begin_s is not None:
                return self._look() or self._listen(self._speech_begin_s)
            # the next turn is opened when nobody waits for the first audio of this one
            opens = self._suspended or not self._answers
            return (opens and self._session.read_ahead(1, self._clock)) or (not self._suspended and self._compact())
        except VitaEdgeError as error:
            self._speech_begin_s = None  # the response itself may still succeed, or say what is wrong
            self._emit(Trouble(monotonic(), error.what, error.why, error.fix))
            return False

    def _generate(self, answer: _Answer) -> bool:
        if self._should_wait(answer):
            return False
        writer = answer.response.generation.writer
        tokens, begin_s = len(writer.token_ids), monotonic()
        try:
            step = answer.response.step()
        except StopIteration:
            self._answer = None
            return True
        if 0 < tokens < len(writer.token_ids):  # the first comes out of the prompt's logits
            self.token_s = smoothed(self.token_s, monotonic() - begin_s)
        self._hand_on(answer, step)
        return True

    def _should_wait(self, answer: _Answer) -> bool:
        lead_s = self._playback.lead_s(answer.number)
        if not answer.committed and lead_s > self._options.held_s:
            return True  # enough for a response that may be given up
        return self._options.voice_first and lead_s < LEAD_S and answer.spoken < answer.handed

    def _hand_on(self, answer: _Answer, step: Step) -> None:
        number, writer = answer.number, answer.response.generation.writer
        match step:
            case StateDecided(state, marked):
                self._emit(StateTold(number, monotonic(), state, marked))
                if state == "noise":
                    self._answer = None  # nobody will hear it
                    answer.response.cancel()
                self._report(AddresseeDecided(number, state != "noise"))
            case TextPiece(text):
                self._emit(Written(number, monotonic(), text))
            case ReadyClause():
                answer.handed += 1
                self._speak(Speak(number, answer.response.generation.index, step, self.token_s))
            case TurnDone(reply):
                self._answer = None
                self._speak(EndOfText(number, len(writer.token_ids), self.token_s))
                self._report(TextComplete(number, reply.finish_reason))

    def _look(self) -> bool:
        """Read a camera frame into the turn, if one is due."""
        session, options = self._session, self._options
        if self._camera is None or session.frames >= options.frames or self._audio_was_read:
            return False
        if monotonic() < self._next_frame_s or (frame := self._camera.newest()) is None:
            return False
        begin_s = monotonic()
        try:
            session.append_encoded_frame(self._encoded(frame.pixels))
        except VitaEdgeError as error:  # a bad frame costs the frame
            self._emit(Trouble(monotonic(), error.what, error.why, error.fix))
            self._next_frame_s = begin_s + FRAME_S
            return True
        session.read_ahead(1, self._clock)
        self._next_frame_s = max(begin_s + FRAME_S, 2 * monotonic() - begin_s)
        self._emit(FrameSeen(frame.at_s, frame.number))
        return True

    def _encoded(self, pixels: NDArray[np.uint8]) -> Rows:
        """The rows of a frame; those of the frame before where that shows the same scene."""
        pixels, model = as_picture(pixels), self._session.model
        if self._seen is None or not self._scene.same(pixels):
            with model.scheduler.step("language"), self._clock.span("vision") as work:
                (self._seen,) = model.encoders.watch([pixels], self._options.style)
                work.count = 1
            self._scene.encoded(pixels)
        return self._seen

    def _listen(self, speech_begin_s: float) -> bool:
        """Encode what is new of the user's audio, or read what is encoded, if there is enough of it."""
        session = self._session
        if not self._options.stream_audio or self._user_is_silent:
            return False
        session.hear(self._hear(speech_begin_s))
        if session.encode_ahead(self._clock):
            return True
        more_frames = self._camera is not None and session.frames < self._options.frames
        if more_frames or monotonic() < self._next_listen_s:
            return False
        begin_s = monotonic()
        if not session.read_ahead(clock=self._clock):
            return False
        # while it reads, the end of the sentence has to wait: the longer that takes, the more rarely it is done
        self._next_listen_s = monotonic() + 2 * (monotonic() - begin_s)
        self._audio_was_read = True
        return True

    def _compact(self) -> bool:
        """Read a slice of what stays of the history, once the context is nearly full."""
        session = self._session
        before, begin_s = session.tokens, monotonic()
        with self._clock.span("memory") as work:
            read = session.compact(self._slice)
            work.count = read or 0
        if read is None:
            return False
        if read:
            rate = read / (monotonic() - begin_s)
            self._slice = min(max(int(rate * SLICE_S), MIN_SLICE), MAX_SLICE)
        if session.tokens < before:
            self._emit(HistoryShortened(monotonic(), session.turns, before, session.tokens))
        return True
