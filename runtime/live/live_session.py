"""A live session: a session with an audio input, an audio output and turn-taking. It owns the threads.

    audio input → control thread → commands → generation thread → clauses → speech thread → playback → audio output
                       ↑                                                                      │
                       └──────────────────────── what was heard of it ────────────────────────┘

The threads tell each other what to do by plain values (:mod:`~.messages`), and each owns what it works on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from time import monotonic
from types import TracebackType

from vita_edge.engines.errors import VitaEdgeError

from ..audio_io.device_protocols import AudioInput, AudioOutput
from ..audio_io.echo_canceller import CancelsEcho, EchoCanceller
from ..encoders.camera import FrameSource
from ..events.session_events import (
    Observer,
    TalkState,
    TalkStateChanged,
    Trouble,
)
from ..session.aio import EventStream
from ..session.assistant import Assistant
from ..session.prompt_layout import PromptLayout
from ..session.session import Session
from ..text.prompt import UserTurn, system_prompt
from ..turns.detector import TurnDetector
from ..turns.speech_input import SpeechInput
from ..turns.turn_events import (
    Press,
    Release,
    Stop,
)
from ..turns.turn_judge import TurnJudge
from ..turns.turn_taking import TurnTaking
from . import messages
from .control_thread import ControlThread, Inbox
from .event_bus import EventBus
from .generation_thread import GenerationThread
from .jitter_buffer import Pace
from .live_options import LiveOptions
from .messages import Reset
from .playback import Playback
from .speech_thread import SpeechThread
from .warm_up import warm_up

__all__ = ["LiveSession"]


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
        self._streams = [each for each in observers if isinstance(each, EventStream)]
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
        asked = turn_detector if options.times.policy and not push_to_talk else None
        self._judge = TurnJudge(asked, self._inbox.put, self._detector_failed) if asked else None
        self._control = ControlThread(
            audio_input,
            audio_output,
            camera,
            self._speech_input,
            self._turn_taking,
            self._playback,
            self._emit,
            self._inbox,
            self._judge,
            push_to_talk,
        )
        self._generation = GenerationThread(
            self._session,
            options,
            self._playback,
            self._emit,
            self._control.speech_so_far,
            self._speech.post,
            self._inbox.put,
            camera,
        )
        self._control.connect(self._generation.post, self._speech.post)
        self._leaving = threading.Event()
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
        return judged and self._control.resting and threads

    def __enter__(self) -> LiveSession:
        with ExitStack() as stack:
            warm_up(self._model, self._session, self._pace)
            self._generation.token_s = self._pace.token_s
            stack.enter_context(self._input)
            stack.enter_context(self._output)
            self._output.start(self._playback, self._canceller.reference)
            if self._judge:
                self._judge.enter()
            for run in (self._generation.run, self._speech.run, self._control.run):
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
        for events in self._streams:
            events.close()  # else whoever iterates waits for ever, and never learns of an error
        if self._judge:
            self._judge.leave()
        self._control.leave()
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
