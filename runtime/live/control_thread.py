"""The control thread: it hears, decides whose turn it is, and acts on it at once.

It ducks, silences and releases the playback itself, and gives commands to the generation and the speech thread. It
owns the responses: every one has a number, a table of states (:mod:`~..session.response_table`), and leaves memory
when it ends; what bears the number of one that is gone is dropped wherever it is met.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..audio_io.device_protocols import AudioBlock, AudioInput, AudioOutput
from ..encoders.camera import FrameSource
from ..events.session_events import (
    Device,
    DeviceChanged,
    EndpointReached,
    FirstSound,
    Interrupted,
    Level,
    ResponseWithdrawn,
    TalkStateChanged,
    TurnBegan,
)
from ..session.response_table import (
    AudioDone,
    Begin,
    CancelCue,
    DropCue,
    FailCue,
    FirstToken,
    Ignored,
    InterruptCue,
    ResponseCue,
    ResponseMachine,
    ResumeCue,
    TextDone,
)
from ..turns.speech_input import SpeechInput
from ..turns.turn_events import (
    Action,
    AddresseeDecided,
    CancelPrefill,
    CancelResponse,
    CommitTurn,
    CompletenessEstimated,
    DropInterrupted,
    Duck,
    EndTurn,
    Interrupt,
    PlaybackDone,
    PlaybackStarted,
    Press,
    Release,
    ResponseFailed,
    Resume,
    SilenceFrame,
    SpeechFrame,
    StartPrefill,
    StartResponse,
    Stop,
    TurnEvent,
    Unduck,
    WithdrawResponse,
)
from ..turns.turn_judge import TurnJudge
from ..turns.turn_taking import TurnTaking
from . import messages
from .event_bus import EventBus
from .messages import GenerationReport, ReplySettled, Reset, TextComplete
from .playback import Playback, ReplyHeard, Silenced, Told, Withdrawn

__all__ = ["ControlThread", "Inbox"]

READ_S = 0.05
"""How long the audio input is waited for before the rest is looked after."""
LEVEL_S = 0.1
"""Between two levels that are emitted."""

Inbox: TypeAlias = TurnEvent | GenerationReport | Told | Reset


@dataclass
class _Live:
    """A response that is not over."""

    machine: ResponseMachine = field(default_factory=ResponseMachine)
    interrupted_s: float | None = None
    silent_s: float | None = None
    settled: ReplySettled | None = None
    dropped: bool = False
    """It leaves as soon as it is silent."""


class ControlThread:
    """Runs turn-taking over what is heard, and carries out what it asks for.

    Args:
        inbox: what the other threads, the playback and the program say.
        judge: asked how complete the turn is, if there is one.
        push_to_talk: listen while a button is held, not when somebody speaks.
    """

    def __init__(
        self,
        audio_input: AudioInput,
        audio_output: AudioOutput,
        camera: FrameSource | None,
        speech_input: SpeechInput,
        turn_taking: TurnTaking,
        playback: Playback,
        emit: EventBus,
        inbox: queue.SimpleQueue[Inbox],
        judge: TurnJudge | None,
        push_to_talk: bool,
    ) -> None:
        self._input, self._output, self._camera = audio_input, audio_output, camera
        self._speech_input, self._turn_taking, self._playback = speech_input, turn_taking, playback
        self._emit, self.inbox, self._judge, self._push_to_talk = emit, inbox, judge, push_to_talk
        self._generation: Callable[[messages.GenerationCommand], None] = lambda _: None
        self._speech: Callable[[messages.SpeechCommand], None] = lambda _: None
        self.responses: dict[int, _Live] = {}
        """Those that are not over."""
        self._user_is_silent = False
        self._next_level_s = 0.0
        self._device_facts: dict[Device, tuple[bool, int]] = {}
        self._leaving = self._busy = False

    def connect(
        self,
        generation: Callable[[messages.GenerationCommand], None],
        speech: Callable[[messages.SpeechCommand], None],
    ) -> None:
        """Where commands go; before :meth:`run`."""
        self._generation, self._speech = generation, speech

    @property
    def resting(self) -> bool:
        """All that was heard is dealt with."""
        return not self._busy and self.inbox.empty()

    def leave(self) -> None:
        """End :meth:`run` within a moment."""
        self._leaving = True

    def run(self) -> None:
        """Work until :meth:`leave`."""
        while not self._leaving:
            block = self._input.read(READ_S)
            self._busy = True
            if block is not None:
                self._hear(block)
            self._look_after()
            self._busy = False

    def _hear(self, block: AudioBlock) -> None:
        step = self._speech_input.step(block)
        if step is None:
            return
        if not self._push_to_talk:
            if self._user_is_silent == step.voice:
                self._user_is_silent = not step.voice
                self._generation(messages.UserSilent(self._user_is_silent))
            self._take((SpeechFrame if step.voice else SilenceFrame)(step.begin_s, step.end_s))
            if self._judge and not step.voice and self._turn_taking.state in ("hearing", "interrupted", "pausing"):
                begin_s = self._turn_taking.speech_begin_s
                so_far = partial(self._speech_input.speech, begin_s)
                self._judge.consider(self._turn_taking.voice_end_s, step.end_s, so_far)
        if step.end_s >= self._next_level_s:
            self._next_level_s = step.end_s + LEVEL_S
            self._emit(Level(monotonic(), self._speech_input.level_dbfs(), step.probability))

    def _look_after(self) -> None:
        """What the other threads, the playback and the buttons have said, and how the devices are."""
        while True:
            try:
                said = self.inbox.get_nowait()
            except queue.Empty:
                break
            self._read(said)
        self._look_at_devices()

    def _read(self, said: Inbox) -> None:
        match said:
            case ReplyHeard(number):
                self._take(PlaybackDone(number))
            case Silenced(number, at_s):
                if response := self.responses.get(number):
                    response.silent_s = at_s
                    self._report_interrupted(number, response)
            case Withdrawn(number, at_s, audible_s):
                self._emit(ResponseWithdrawn(number, at_s, audible_s))
            case ReplySettled(number):
                if response := self.responses.get(number):
                    response.settled = said
                    self._report_interrupted(number, response)
            case TextComplete(number, reason):
                self._advance(number, TextDone(reason))
            case FirstSound(number):
                self._emit(said)
                self._take(PlaybackStarted(number))
            case AddresseeDecided(number):
                self._advance(number, FirstToken())
                self._take(said)
            case ResponseFailed(number):
                self._give_up(number, FailCue())
                self._take(said)
            case Press() | Release() | Stop() | CompletenessEstimated():
                self._take(said)
            case Reset(at_s):
                self._take(Stop(at_s))
                self._generation(messages.ClearHistory())
            case _:
                self._emit(said)  # type: ignore[arg-type]  # what the playback tells is an event

    def _take(self, event: TurnEvent) -> None:
        before = self._turn_taking.state
        for action in self._turn_taking.step(event):
            self._act(action)
        if self._turn_taking.state != before:
            self._emit(TalkStateChanged(monotonic(), self._turn_taking.state))

    def _act(self, action: Action) -> None:
        generation, speech, playback = self._generation, self._speech, self._playback
        match action:
            case StartPrefill():
                generation(messages.ReadAhead(self._turn_taking.speech_begin_s))
            case CancelPrefill():
                generation(messages.ForgetInput())
            case StartResponse():
                self._respond(action)
            case CommitTurn(number):
                playback.release(number)
                generation(messages.Commit(number))
                self._emit(EndpointReached(number, monotonic()))
            case CancelResponse(number, why):
                self._give_up(number, Ignored() if why == "noise" else CancelCue())
                generation(messages.Cancel(number, why))
            case WithdrawResponse(number):
                self._advance(number, CancelCue())
                self.responses.pop(number, None)
                playback.withdraw(number)
                speech(messages.Drop(number))
                generation(messages.Cancel(number, "withdrawn"))
            case EndTurn(number):
                self._give_up(number, AudioDone())
                generation(messages.SettleTurn(number))
            case Duck():
                playback.duck(True)
            case Unduck():
                playback.duck(False)
            case Interrupt(number):
                self._interrupt(number)
            case Resume(number):
                self._advance(number, ResumeCue())
                playback.resume(number)
                speech(messages.Continue(number))
                generation(messages.ContinueReply(number))
            case DropInterrupted(number):
                self._drop(number)
                generation(messages.ForgetInterrupted(number))

    def _respond(self, action: StartResponse) -> None:
        number, heard = action.turn, self._speech_input
        self.responses[number] = _Live()
        self._advance(number, Begin())
        self._playback.begin(number)
        audio = heard.speech(action.speech_begin_s, action.speech_end_s)
        begin_s, end_s = (heard.monotonic_s(t) for t in (action.speech_begin_s, action.speech_end_s))
        self._emit(TurnBegan(number, monotonic(), begin_s, end_s, action.speculative))
        self._generation(messages.Respond(number, audio))

    def _interrupt(self, number: int) -> None:
        self._playback.silence(number)
        self._speech(messages.Suspend(number))
        self._advance(number, InterruptCue())
        response = self.responses[number]
        response.interrupted_s, response.silent_s, response.settled = monotonic(), None, None
        self._generation(messages.KeepHeard(number, self._playback.tokens_heard(number)))

    def _report_interrupted(self, number: int, response: _Live) -> None:
        """The user has taken the word: once it is silent, and known what the history keeps."""
        settled, silent_s, at_s = response.settled, response.silent_s, response.interrupted_s
        if settled is None or silent_s is None or at_s is None:
            return
        self._emit(Interrupted(number, at_s, silent_s, settled.tokens_heard, settled.tokens_written))
        response.interrupted_s = None
        if response.dropped:
            self._give_up(number, DropCue())

    def _drop(self, number: int) -> None:
        """The rest of an interrupted reply is given up, once it was faded out."""
        response = self.responses.get(number)
        if response is not None and response.interrupted_s is not None:
            response.dropped = True
        else:
            self._give_up(number, DropCue())

    def _advance(self, number: int, cue: ResponseCue) -> None:
        if response := self.responses.get(number):
            response.machine.step(cue)

    def _give_up(self, number: int, cue: ResponseCue) -> None:
        """The response ends, and leaves memory."""
        self._advance(number, cue)
        self.responses.pop(number, None)
        self._playback.forget(number)
        self._speech(messages.Drop(number))

    def speech_so_far(self, begin_s: float) -> NDArray[np.float32]:
        """What the user has said for sure, for any thread: silence behind the last voice may still be cut off."""
        return self._speech_input.speech(begin_s, None if self._push_to_talk else self._turn_taking.voice_end_s)

    def _look_at_devices(self) -> None:
        facts: dict[Device, tuple[bool, int]] = {
            "microphone": (self._input.lost, self._input.dropouts),
            "speaker": (self._output.lost, self._output.underflows),
        }
        if self._camera:
            facts["camera"] = (self._camera.lost, 0)
        for device, now in facts.items():
            if now != self._device_facts.get(device, (False, 0)):
                self._emit(DeviceChanged(monotonic(), device, *now))
        self._device_facts = facts
