"""A live session: a session with an audio input, an audio output and turn-taking. It owns the threads.

    audio input → control thread → commands → generation thread → clauses → speech thread → playback → audio output
                       ↑                                                                      │
                       └──────────────────────── what was heard of it ────────────────────────┘

The control thread hears, decides whose turn it is, and acts on it at once: it ducks, silences and releases the playback
itself, and gives commands to the other two. It owns the responses: every one has a number, a table of states
(:mod:`~..session.response_table`), and leaves memory when it ends; what bears the number of one that is gone is dropped
wherever it is met.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import VitaEdgeError

from ..audio_io.device_protocols import AudioBlock, AudioInput, AudioOutput
from ..audio_io.echo_canceller import CancelsEcho, EchoCanceller
from ..encoders.camera import FrameSource
from ..events.session_events import (
    Device,
    DeviceChanged,
    EndpointReached,
    FirstSound,
    Interrupted,
    Level,
    Observer,
    ResponseWithdrawn,
    TalkState,
    TalkStateChanged,
    Trouble,
    TurnBegan,
)
from ..session.assistant import Assistant
from ..session.prompt_layout import PromptLayout
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
from ..session.session import Session
from ..text.prompt import UserTurn, system_prompt
from ..turns.detector import TurnDetector
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
from .generation_thread import GenerationThread
from .jitter_buffer import Pace
from .live_options import LiveOptions
from .messages import GenerationReport, ReplySettled, Reset, TextComplete
from .playback import Playback, ReplyHeard, Silenced, Told, Withdrawn
from .speech_thread import SpeechThread
from .warm_up import warm_up

__all__ = ["LiveSession"]

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


class LiveSession:
    """Talks from ``with`` on until it is left.

    ::

        with LiveSession(assistant, SoundMicrophone(), SoundSpeaker(), observers=[print]) as live:
            live.wait()

    Args:
        assistant: an opened bundle; other sessions may share it.
        audio_input, audio_output: devices or what stands for them, entered and left by the session.
        camera: gives the newest frame, if there is one; a camera that is lost costs the pictures, not the session.
        canceller: takes the echo of the output out of the input; None takes WebRTC's, ``Headphones()`` changes nothing.
        observers: called with every event. One that raises is not called again: see :class:`~.event_bus.EventBus`.
        push_to_talk: listen while a button is held (:meth:`press`, :meth:`release`), not when somebody speaks.
        instructions: text of the system prompt; None takes the one that the model was trained to see.
        layout: how the conversation is written out; None is in the order in which it happened.
        turn_detector: says how likely the user has finished, where ``options.times`` has a policy for it.

    Raises, when it is entered or waited for:
        VitaEdgeError: a device, a package or a graph failed.
    """

    def __init__(
        self,
        assistant: Assistant,
        audio_input: AudioInput,
        audio_output: AudioOutput,
        *,
        options: LiveOptions | None = None,
        camera: FrameSource | None = None,
        canceller: CancelsEcho | None = None,
        observers: Sequence[Observer] = (),
        push_to_talk: bool = False,
        instructions: str | None = None,
        layout: PromptLayout | None = None,
        turn_detector: TurnDetector | None = None,
    ) -> None:
        self._options = options = options or LiveOptions()
        self._input, self._output, self._camera = audio_input, audio_output, camera
        self._push_to_talk = push_to_talk
        rate_hz = assistant.bundle.model.codec.sample_rate_hz
        self._canceller = canceller or EchoCanceller(rate_hz)
        self._emit = EventBus(observers)
        self._inbox: queue.SimpleQueue[Inbox] = queue.SimpleQueue()
        self._pace = Pace()
        self._playback = Playback(rate_hz, self._inbox.put)
        seen = UserTurn(frames=int(camera is not None), clips=1)
        self._model = assistant.model
        self._trained = system_prompt(self._model.prompts, options.style, seen)
        self._session = assistant.session(options, instructions=instructions or self._trained, layout=layout)
        self._speech = SpeechThread(
            self._model, self._session.synthesizer, options, self._playback, self._pace, self._emit, self._to_generation
        )
        self._speech_input = SpeechInput(options, self._canceller)
        self._turn_taking = TurnTaking(options.times)
        self._generation = GenerationThread(
            self._session,
            options,
            self._playback,
            self._emit,
            self._speech_so_far,
            self._speech.post,
            self._inbox.put,
            camera,
        )
        asked = turn_detector if options.times.policy and not push_to_talk else None
        self._judge = TurnJudge(asked, self._inbox.put, self._detector_failed) if asked else None
        self._responses: dict[int, _Live] = {}
        self._user_is_silent = False
        self._next_level_s = 0.0
        self._device_facts: dict[Device, tuple[bool, int]] = {}
        self._leaving = threading.Event()
        self._busy = False
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._stack = ExitStack()

    @property
    def session(self) -> Session:
        """The session; while this runs it belongs to the generation thread, and may be looked at only."""
        return self._session

    @property
    def playback(self) -> Playback:
        """What the output plays."""
        return self._playback

    @property
    def state(self) -> TalkState:
        """Who speaks."""
        return self._turn_taking.state

    def press(self) -> None:
        """The button that is held to talk went down."""
        self._inbox.put(Press(self._speech_input.now_s))

    def release(self) -> None:
        """It was let go."""
        self._inbox.put(Release(self._speech_input.now_s))

    def cancel_response(self) -> None:
        """Silence the response and stop making it, from any thread; the history keeps what was heard of it."""
        self._inbox.put(Stop(self._speech_input.now_s))

    def set_instructions(self, instructions: str | None) -> None:
        """Change the system prompt from the next response on, from any thread; None is the one it was trained with."""
        self._generation.post(messages.SetInstructions(instructions or self._trained))

    def reset(self) -> None:
        """Stop, and forget everything, from any thread: for the next visitor."""
        self._inbox.put(Reset(self._speech_input.now_s))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the session has ended; True when it has."""
        ended = self._leaving.wait(timeout_s)
        self._raise()
        return ended

    @property
    def resting(self) -> bool:
        """All that was heard is dealt with, and nothing is left to do before more is heard or played."""
        judged = self._judge is None or self._judge.resting
        threads = self._speech.resting and self._generation.resting
        return judged and not self._busy and self._inbox.empty() and threads

    def __enter__(self) -> LiveSession:
        with ExitStack() as stack:
            warm_up(self._model, self._session, self._pace)
            self._generation.token_s = self._pace.token_s
            stack.enter_context(self._input)
            stack.enter_context(self._output)
            self._output.start(self._playback, self._canceller.reference)
            if self._judge:
                self._judge.enter()
            for run in (self._generation.run, self._speech.run, self._listen):
                thread = threading.Thread(target=self._guarded, args=(run,), name=run.__qualname__, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._stack = stack.pop_all()
        self._emit(TalkStateChanged(monotonic(), self._turn_taking.state))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        for thread in self._threads:
            thread.join()
        self._stack.close()
        if kind is None:
            self._raise()

    # --- threads

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # whatever it is ends the session, and is raised where that is held
            self._error = self._error or error
        finally:
            self._leave()

    def _leave(self) -> None:
        self._leaving.set()
        if self._judge:
            self._judge.leave()
        self._generation.post(messages.Leave())
        self._speech.post(messages.Leave())

    def _raise(self) -> None:
        if self._error:
            error, self._error = self._error, None
            raise error

    def _detector_failed(self, error: VitaEdgeError) -> None:
        self._emit(Trouble(monotonic(), error.what, error.why, error.fix))

    def _to_generation(self, command: messages.GenerationCommand) -> None:
        self._generation.post(command)

    # --- the control thread

    def _listen(self) -> None:
        while not self._leaving.is_set():
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
                self._generation.post(messages.UserSilent(self._user_is_silent))
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
                said = self._inbox.get_nowait()
            except queue.Empty:
                break
            self._read(said)
        self._look_at_devices()

    def _read(self, said: Inbox) -> None:
        match said:
            case ReplyHeard(number):
                self._take(PlaybackDone(number))
            case Silenced(number, at_s):
                if response := self._responses.get(number):
                    response.silent_s = at_s
                    self._tell_interrupted(number, response)
            case Withdrawn(number, at_s, audible_s):
                self._emit(ResponseWithdrawn(number, at_s, audible_s))
            case ReplySettled(number):
                if response := self._responses.get(number):
                    response.settled = said
                    self._tell_interrupted(number, response)
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
                self._generation.post(messages.ClearHistory())
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
                generation.post(messages.ReadAhead(self._turn_taking.speech_begin_s))
            case CancelPrefill():
                generation.post(messages.ForgetInput())
            case StartResponse():
                self._respond(action)
            case CommitTurn(number):
                playback.release(number)
                generation.post(messages.Commit(number))
                self._emit(EndpointReached(number, monotonic()))
            case CancelResponse(number, why):
                self._give_up(number, Ignored() if why == "noise" else CancelCue())
                generation.post(messages.Cancel(number, why))
            case WithdrawResponse(number):
                self._advance(number, CancelCue())
                self._responses.pop(number, None)
                playback.withdraw(number)
                speech.post(messages.Drop(number))
                generation.post(messages.Cancel(number, "withdrawn"))
            case EndTurn(number):
                self._give_up(number, AudioDone())
                generation.post(messages.SettleTurn(number))
            case Duck():
                playback.duck(True)
            case Unduck():
                playback.duck(False)
            case Interrupt(number):
                self._interrupt(number)
            case Resume(number):
                self._advance(number, ResumeCue())
                playback.resume(number)
                speech.post(messages.Continue(number))
                generation.post(messages.ContinueReply(number))
            case DropInterrupted(number):
                self._drop(number)
                generation.post(messages.ForgetInterrupted(number))

    def _respond(self, action: StartResponse) -> None:
        number, heard = action.turn, self._speech_input
        self._responses[number] = _Live()
        self._advance(number, Begin())
        self._playback.begin(number)
        audio = heard.speech(action.speech_begin_s, action.speech_end_s)
        begin_s, end_s = (heard.monotonic_s(t) for t in (action.speech_begin_s, action.speech_end_s))
        self._emit(TurnBegan(number, monotonic(), begin_s, end_s, action.speculative))
        self._generation.post(messages.Respond(number, audio))

    def _interrupt(self, number: int) -> None:
        self._playback.silence(number)
        self._speech.post(messages.Suspend(number))
        self._advance(number, InterruptCue())
        response = self._responses[number]
        response.interrupted_s, response.silent_s, response.settled = monotonic(), None, None
        self._generation.post(messages.KeepHeard(number, self._playback.tokens_heard(number)))

    def _tell_interrupted(self, number: int, response: _Live) -> None:
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
        response = self._responses.get(number)
        if response is not None and response.interrupted_s is not None:
            response.dropped = True
        else:
            self._give_up(number, DropCue())

    def _advance(self, number: int, cue: ResponseCue) -> None:
        if response := self._responses.get(number):
            response.machine.step(cue)

    def _give_up(self, number: int, cue: ResponseCue) -> None:
        """The response ends, and leaves memory."""
        self._advance(number, cue)
        self._responses.pop(number, None)
        self._playback.forget(number)
        self._speech.post(messages.Drop(number))

    def _speech_so_far(self, begin_s: float) -> NDArray[np.float32]:
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
