"""A live talk: the only module that owns threads, and the queues between them.

    microphone → listening thread → orders → thinking thread → clauses → speaking thread → playback → speaker
                       ↑                                                                      │
                       └───────────────────────── what was heard of it ───────────────────────┘

The listening thread hears, decides whose turn it is, and acts on it at once: it ducks, silences and releases the
playback itself, and gives orders to the thinking thread. Every attempt to answer has a number; what bears the number
of one that was given up is dropped wherever it is met.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from time import monotonic
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import VitaEdgeError

from ..audio_io.device_protocols import AudioBlock, Microphone, Speaker
from ..audio_io.echo_canceller import CancelsEcho, Headphones
from ..decoding.sampling import speech_sampler, text_sampler
from ..decoding.sampling_options import SamplingOptions
from ..events.session_events import (
    Device,
    DeviceChanged,
    EndpointReached,
    FirstSound,
    Interrupted,
    Level,
    Observer,
    ResponseWithdrawn,
    TalkStateChanged,
    Trouble,
    TurnBegan,
)
from ..turns.detector import TurnDetector
from ..turns.speech_input import SpeechInput
from ..turns.turn_events import (
    Action,
    CancelPrefill,
    CancelResponse,
    CommitTurn,
    DropInterrupted,
    Duck,
    EndTurn,
    Interrupt,
    PlaybackDone,
    PlaybackStarted,
    Press,
    Release,
    Resume,
    SilenceFrame,
    SpeechFrame,
    StartPrefill,
    StartResponse,
    TurnEvent,
    Unduck,
    WithdrawResponse,
)
from ..turns.turn_judge import TurnJudge
from ..turns.turn_taking import TurnTaking
from .assistant import Assistant
from .attempt import Announcer, Attempt
from .dialogue import Dialogue
from .generation_thread import Camera, Mind
from .jitter_buffer import Pace
from .live_options import LiveOptions
from .playback import Playback, ReplyHeard, Silenced, Told, Withdrawn
from .reply_writer import ReplyWriter
from .speech_thread import Mouth
from .warm_up import warm_up

__all__ = ["LiveTalk"]

READ_S = 0.05
"""How long the microphone is waited for before the rest is looked after."""
LEVEL_S = 0.1
"""Between two levels that are told."""


class LiveTalk:
    """Talks from ``with`` on until it is left.

    ::

        with LiveTalk(assistant, microphone, speaker, observers=[print]) as talk:
            talk.wait()

    Args:
        assistant: an opened bundle; nobody else may use it meanwhile.
        microphone, speaker: devices, entered and left by the talk.
        camera: opened, if there is one; a camera that is lost costs the pictures, not the talk.
        canceller: takes the echo of the speaker out of the microphone; none is needed with headphones.
        observers: are told everything that happens.
        push_to_talk: listen while a button is held (:meth:`press`, :meth:`release`), not when somebody speaks.
        turn_detector: says how likely the user has finished, where ``options.times`` has a policy for it.

    Raises, when it is entered or waited for:
        VitaEdgeError: a device, a package or a graph failed.
    """

    def __init__(
        self,
        assistant: Assistant,
        microphone: Microphone,
        speaker: Speaker,
        *,
        options: LiveOptions | None = None,
        camera: Camera | None = None,
        canceller: CancelsEcho | None = None,
        observers: Sequence[Observer] = (),
        push_to_talk: bool = False,
        turn_detector: TurnDetector | None = None,
    ) -> None:
        assistant.voice.check()
        self._options = options = options or LiveOptions()
        self._assistant, self._microphone, self._speaker = assistant, microphone, speaker
        self._canceller, self._camera, self._push_to_talk = canceller or Headphones(), camera, push_to_talk
        self._tell = Announcer(observers)
        self._pace = Pace()
        self._told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._cues: queue.SimpleQueue[TurnEvent] = queue.SimpleQueue()
        self._playback = Playback(assistant.bundle.model.codec.sample_rate_hz, self._told.put)
        self._mouth = Mouth(
            assistant.voice, self._playback, self._pace, self._tell, self._mouth_got_on, self._speech_failed
        )
        capacity = assistant.context_tokens(options.context_tokens, options.max_new_tokens)
        self._dialogue = Dialogue(
            assistant.language_model(capacity),
            partial(assistant.language_model, capacity),
            assistant.encoders,
            assistant.tokenizer,
            assistant.bundle.model,
            assistant.bundle.prompts,
            sees=camera is not None,
            order=options.order,
        )
        self._mind = Mind(
            self._dialogue,
            assistant.encoders,
            self._mouth,
            self._playback,
            self._pace,
            options,
            self._tell,
            self._cues.put,
            camera,
        )
        self._turn_taking = TurnTaking(options.times)
        self._speech_input = SpeechInput(options, self._canceller)
        asked = turn_detector if options.times.policy and not push_to_talk else None
        self._judge = TurnJudge(asked, self._cues.put, self._detector_failed) if asked else None
        self._next_level_s = 0.0
        self._attempts: dict[int, Attempt] = {}
        self._answered = 0
        self._device_facts: dict[Device, tuple[bool, int]] = {}
        self._leaving = threading.Event()
        self._busy = False
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._stack = ExitStack()

    @property
    def playback(self) -> Playback:
        """What the speaker plays."""
        return self._playback

    @property
    def dialogue(self) -> Dialogue:
        """The history; it belongs to the thinking thread while the talk runs."""
        return self._dialogue

    def press(self) -> None:
        """The button that is held to talk went down."""
        self._cues.put(Press(self._speech_input.now_s))

    def release(self) -> None:
        """It was let go."""
        self._cues.put(Release(self._speech_input.now_s))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the talk has ended; True when it has."""
        ended = self._leaving.wait(timeout_s)
        self._raise()
        return ended

    @property
    def resting(self) -> bool:
        """All that was heard is dealt with, and nothing is left to do before more is heard or played."""
        judged = self._judge is None or self._judge.resting
        threads = self._mouth.resting and self._mind.resting
        return judged and not self._busy and self._told.empty() and self._cues.empty() and threads

    def __enter__(self) -> LiveTalk:
        with ExitStack() as stack:
            self._dialogue.open()
            warm_up(self._assistant, self._dialogue, self._pace)
            stack.enter_context(self._microphone)
            stack.enter_context(self._speaker)
            self._speaker.start(self._playback, self._canceller.reference)
            if self._judge:
                self._judge.enter()
            for run in (self._mind.run, self._mouth.run, self._listen):
                thread = threading.Thread(target=self._guarded, args=(run,), name=run.__qualname__, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._stack = stack.pop_all()
        self._tell(TalkStateChanged(monotonic(), self._turn_taking.state))
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
        except BaseException as error:  # whatever it is ends the talk, and is raised where the talk is held
            self._error = self._error or error
        finally:
            self._leave()

    def _leave(self) -> None:
        self._leaving.set()
        if self._judge:
            self._judge.leave()
        self._mind.leave()
        self._mouth.leave()

    def _raise(self) -> None:
        if self._error:
            error, self._error = self._error, None
            raise error

    def _mouth_got_on(self) -> None:
        self._mind.look_again()

    def _speech_failed(self, attempt: Attempt, error: VitaEdgeError) -> None:
        self._mind.post(self._mind.fail, attempt, error)

    def _detector_failed(self, error: VitaEdgeError) -> None:
        self._tell(Trouble(monotonic(), error.what, error.why, error.fix))

    # --- the listening thread

    def _listen(self) -> None:
        while not self._leaving.is_set():
            block = self._microphone.read(READ_S)
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
            self._mind.user_is_silent = not step.voice
            self._take(SpeechFrame(step.begin_s, step.end_s) if step.voice else SilenceFrame(step.begin_s, step.end_s))
            if self._judge and not step.voice and self._turn_taking.state in ("hearing", "interrupted", "pausing"):
                begin_s = self._turn_taking.speech_begin_s
                self._judge.consider(
                    self._turn_taking.voice_end_s, step.end_s, partial(self._speech_input.speech, begin_s)
                )
        if step.end_s >= self._next_level_s:
            self._next_level_s = step.end_s + LEVEL_S
            self._tell(Level(monotonic(), self._speech_input.level_dbfs(), step.probability))

    def _look_after(self) -> None:
        """What the playback, the mind and the buttons have told, and how the devices are."""
        while True:
            try:
                self._hear_of_playback(self._told.get_nowait())
            except queue.Empty:
                break
        while True:
            try:
                self._take(self._cues.get_nowait())
            except queue.Empty:
                break
        for attempt in self._attempts.values():
            if attempt.silent_s and attempt.tokens_heard >= 0:
                written = len(attempt.writer.token_ids)
                at_s, silent_s = attempt.interrupted_s, attempt.silent_s
                self._tell(Interrupted(attempt.turn, at_s, silent_s, attempt.tokens_heard, written))
                attempt.silent_s, attempt.tokens_heard = 0.0, -1
        self._look_at_devices()

    def _hear_of_playback(self, told: Told) -> None:
        if isinstance(told, ReplyHeard):
            self._take(PlaybackDone(told.turn))
        elif isinstance(told, Silenced):
            if attempt := self._attempts.get(told.turn):
                attempt.silent_s = told.at_s
        elif isinstance(told, Withdrawn):
            self._tell(ResponseWithdrawn(told.turn, told.at_s, told.audible_s))
        else:
            self._tell(told)
            if isinstance(told, FirstSound):
                self._take(PlaybackStarted(told.turn))

    def _take(self, cue: TurnEvent) -> None:
        before = self._turn_taking.state
        actions = self._turn_taking.step(cue)
        for action in actions:
            self._act(action)
        if self._turn_taking.state != before:
            self._tell(TalkStateChanged(monotonic(), self._turn_taking.state))

    def _act(self, action: Action) -> None:
        mind, playback = self._mind, self._playback
        match action:
            case StartPrefill():
                mind.post(mind.prepare, partial(self._speech_so_far, self._turn_taking.speech_begin_s))
            case CancelPrefill():
                mind.post(mind.dismiss)
            case StartResponse():
                self._begin(action)
            case CommitTurn(turn):
                self._attempts[turn].confirmed = True
                playback.release(turn)
                self._tell(EndpointReached(turn, monotonic()))
            case CancelResponse(turn, why):
                mind.post(mind.forget, self._cancel(turn), why)
            case WithdrawResponse(turn):
                attempt = self._attempts.pop(turn)
                attempt.cancelled = True
                playback.withdraw(turn)
                self._mouth.look_again()
                mind.post(mind.forget, attempt, "withdrawn")
            case EndTurn(turn):
                self._answered += 1
                playback.forget(turn)
                mind.post(mind.close, self._attempts.pop(turn))
            case Duck():
                playback.duck(True)
            case Unduck():
                playback.duck(False)
            case Interrupt(turn):
                attempt = self._attempts[turn]
                playback.silence(turn)
                attempt.suspended, attempt.interrupted_s = True, monotonic()
                mind.post(mind.interrupt, attempt)
            case Resume(turn):
                attempt = self._attempts[turn]
                attempt.suspended = False
                playback.resume(turn)
                self._mouth.look_again()
                mind.post(mind.resume, attempt)
            case DropInterrupted(turn):
                self._answered += 1
                mind.post(mind.abandon, self._cancel(turn))

    def _begin(self, action: StartResponse) -> None:
        options, speech_input = self._options, self._speech_input
        clip = speech_input.speech(action.speech_begin_s, action.speech_end_s)
        facts = self._assistant.bundle.model
        how = SamplingOptions(
            temperature=options.temperature,
            top_k=options.top_k,
            seed=options.seed,
            speech_top_k=options.speech_top_k,
        )
        attempt = Attempt(
            action.turn,
            clip,
            ReplyWriter(self._assistant.tokenizer, facts, "speech", "live"),
            text_sampler(facts.llm, how, self._answered),
            speech_sampler(facts.speech, how, self._answered),
        )
        self._attempts[action.turn] = attempt
        self._playback.begin(action.turn)
        begin_s, end_s = (speech_input.monotonic_s(t) for t in (action.speech_begin_s, action.speech_end_s))
        self._tell(TurnBegan(action.turn, monotonic(), begin_s, end_s, action.speculative))
        self._mind.post(self._mind.begin, attempt)

    def _speech_so_far(self, begin_s: float) -> NDArray[np.float32]:
        """What will be in the clip for sure, for any thread: silence behind the last voice may still be cut off."""
        return self._speech_input.speech(begin_s, None if self._push_to_talk else self._turn_taking.voice_end_s)

    def _cancel(self, turn: int) -> Attempt:
        attempt = self._attempts.pop(turn)
        attempt.cancelled = True
        self._playback.forget(turn)
        self._mouth.look_again()
        return attempt

    def _look_at_devices(self) -> None:
        facts: dict[Device, tuple[bool, int]] = {
            "microphone": (self._microphone.lost, self._microphone.dropouts),
            "speaker": (self._speaker.lost, self._speaker.underflows),
        }
        if self._camera:
            facts["camera"] = (self._camera.lost, 0)
        for device, now in facts.items():
            if now != self._device_facts.get(device, (False, 0)):
                self._tell(DeviceChanged(monotonic(), device, *now))
        self._device_facts = facts
