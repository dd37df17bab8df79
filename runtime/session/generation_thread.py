"""The thinking thread: reads ahead while the user speaks, answers, and tidies its memory while nobody speaks.

Everything that it does is cut into steps of a layer pass or less; between two steps it takes orders, so that an
interruption stops it within one step.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import VitaEdgeError

from ..decoding.sampling import Logits
from ..encoders.camera import Frame
from ..encoders.encoders import Encoders
from ..encoders.scene_gate import SceneGate
from ..events.reply_events import StateDecided, TextPiece
from ..events.session_events import FrameSeen, HistoryShortened, StateTold, Trouble, TurnEnded, TurnForgotten
from ..events.session_events import Written as WrittenText
from ..turns.turn_events import AddresseeDecided, ResponseFailed, TurnEvent
from .attempt import Announcer, Attempt
from .dialogue import Dialogue, SettledTurn
from .jitter_buffer import Pace
from .live_options import LiveOptions
from .playback import Playback
from .reply_writer import ReadyClause, Written
from .speech_thread import Mouth

__all__ = ["Camera", "Mind"]

IDLE_S = 0.02
"""How long orders are waited for before it is looked again whether there is something to do."""
FRAME_S = 1.0
"""Between two frames of a turn."""
ROW_MS = 80
"""Sound of a row of the prompt."""
LEAD_S = 0.3
"""Sound that is ahead of what is heard, below which the voice goes before the text."""
SLICE_S = 0.05
"""Reading old turns again is cut into slices of about this length."""
NEARLY_FULL, KEPT = 0.5, 0.25
"""Of the context behind the system prompt: when old turns begin to leave, and what stays of them."""


class Camera(Protocol):
    """Gives its newest frame, or none while it has none."""

    @property
    def lost(self) -> bool: ...

    def newest(self) -> Frame | None: ...


class Mind:
    """Thinks. The methods under *orders* are run in its own thread: others :meth:`post` them.

    Args:
        camera: if there is one.
        cue: where the listening thread hears what the model has said.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        encoders: Encoders,
        mouth: Mouth,
        playback: Playback,
        pace: Pace,
        options: LiveOptions,
        tell: Announcer,
        cue: Callable[[TurnEvent], None],
        camera: Camera | None = None,
    ) -> None:
        self._dialogue, self._encoders, self._mouth, self._playback = dialogue, encoders, mouth, playback
        self._pace, self._options, self._tell, self._cue = pace, options, tell, cue
        self._camera = camera
        self._scene = SceneGate(options.same_scene)
        self._seen: list[NDArray[np.float32]] = []
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._leaving = self._resting = False
        self._attempt: Attempt | None = None
        self._work: Iterator[bool] | None = None
        """The steps of the attempt; each says whether it got on, or has to wait."""
        self._suspended: SettledTurn | None = None
        self._ear: Callable[[], NDArray[np.float32]] | None = None
        self._hearing = False
        self.user_is_silent = False
        """Set by the listening thread: an answer may be asked for at any moment, so nothing is begun that it would wait
        for."""
        self._next_frame_s = self._next_listen_s = 0.0
        self._slice = 32

    def post(self, order: Callable[..., None], *arguments: Any) -> None:
        """Give an order, from any thread."""
        self._orders.put(partial(order, *arguments))

    def look_again(self) -> None:
        """What it waits for may have come; from any thread."""
        self._orders.put(_nothing)

    @property
    def resting(self) -> bool:
        """Nothing can be done before something more is ordered, heard or played."""
        return self._resting and self._orders.empty()

    def leave(self) -> None:
        """End :meth:`run` within a step."""
        self._leaving = True
        self.look_again()

    def run(self) -> None:
        """Think until :meth:`leave`."""
        while not self._leaving:
            self._resting = not self._step()
            wait_s = IDLE_S if self._work or self._hearing else None
            try:
                order = self._orders.get(self._resting, wait_s)
                while True:
                    self._resting = False
                    order()
                    order = self._orders.get_nowait()
            except queue.Empty:
                pass

    # --- orders

    def prepare(self, ear: Callable[[], NDArray[np.float32]]) -> None:
        """The user has begun to speak: look, and read ahead of what ``ear`` hears, float32 [n] at 16 kHz."""
        self._ear, self._hearing = ear, True
        self._next_frame_s = self._next_listen_s = 0.0

    def dismiss(self) -> None:
        """It was nothing."""
        self._hearing = False
        if not self._dialogue.untouched:
            self._dialogue.forget()

    def begin(self, attempt: Attempt) -> None:
        """Answer what was said."""
        self._hearing = False
        self._attempt, self._work = attempt, self._answer(attempt)

    def forget(self, attempt: Attempt, why: Literal["resumed", "withdrawn", "noise"]) -> None:
        """Give an attempt up: because the user goes on (``resumed``, or ``withdrawn`` when some of it was heard), or
        because it was ``noise``."""
        self._stop(attempt)
        if why != "noise":
            self._dialogue.unask()
            self._hearing = True
        else:
            self._dialogue.forget()
        self._tell(TurnForgotten(attempt.turn, monotonic(), why))

    def interrupt(self, attempt: Attempt) -> None:
        """The reply was silenced: history keeps what was heard of it."""
        self._stop(attempt)
        ids = attempt.writer.token_ids
        heard = min(self._playback.tokens_heard(attempt.turn), len(ids))
        self._suspended = self._dialogue.settle(ids, heard)
        attempt.tokens_heard = heard

    def resume(self, attempt: Attempt) -> None:
        """The interruption was noise: go on with the reply."""
        assert self._suspended is not None
        logits = self._dialogue.resume(self._suspended)
        self._suspended, self._attempt = None, attempt
        self._work = None if attempt.written else self._decode(attempt, logits)

    def abandon(self, attempt: Attempt) -> None:
        """The interruption was meant."""
        self._suspended = None
        self._tell_ended(attempt, finished=False)

    def close(self, attempt: Attempt) -> None:
        """The reply was heard to its end."""
        self._stop(attempt)
        ids = attempt.writer.token_ids
        self._dialogue.settle(ids, len(ids))
        self._tell_ended(attempt, finished=attempt.writer.finished)

    def fail(self, attempt: Attempt, error: VitaEdgeError) -> None:
        """An attempt cannot be answered: it leaves no trace, and the talk goes on."""
        if attempt is not self._attempt:
            return
        self._stop(attempt)
        attempt.cancelled = True
        self._dialogue.forget()
        self._playback.forget(attempt.turn)
        self._mouth.look_again()
        self._tell(Trouble(monotonic(), error.what, error.why, error.fix))
        self._tell(TurnForgotten(attempt.turn, monotonic(), "failed"))
        self._cue(ResponseFailed(attempt.turn))

    # --- steps

    def _step(self) -> bool:
        """Do a little of what is most urgent; False when there is nothing to do just now."""
        if self._work is not None:
            assert self._attempt is not None
            try:
                return next(self._work)
            except StopIteration:
                self._work = None
            except VitaEdgeError as error:
                self.fail(self._attempt, error)
            return True
        try:
            if self._hearing:
                return self._look() or self._listen()
            return self._suspended is None and self._recollect()
        except VitaEdgeError as error:
            self._hearing = False  # the answer itself may still succeed, or say what is wrong
            self._tell(Trouble(monotonic(), error.what, error.why, error.fix))
            return False

    def _answer(self, attempt: Attempt) -> Iterator[bool]:
        with self._tell.span(attempt.turn, "audio") as work:
            work.count = ROW_MS * self._dialogue.hear(attempt.clip)
        yield True
        logits = self._read(attempt.turn, self._dialogue.ask)
        yield True
        yield from self._decode(attempt, logits)

    def _decode(self, attempt: Attempt, logits: Logits) -> Iterator[bool]:
        writer, timeline = attempt.writer, self._dialogue.timeline
        most = min(self._options.max_new_tokens - len(writer.token_ids), self._dialogue.reply_room)
        tokens = timeline.decode(logits, writer.choose(attempt.sample), most, writer.stop)
        while True:
            while self._should_wait(attempt):
                yield False
            begin_s = monotonic()
            with self._tell.span(attempt.turn, "decode") as work:
                token = next(tokens, None)
                work.count = token is not None
            if token is None:
                break
            if len(writer.token_ids) > 1:  # the first comes out of the prompt's logits
                self._pace.learn("token_s", monotonic() - begin_s)
            self._hand_on(attempt, writer.step(token))
            if writer.state == "noise":
                return  # nobody will hear it
            if writer.finished:
                break
            yield True
        attempt.written = True
        self._hand_on(attempt, writer.finish())
        self._mouth.end(attempt)
        self._mouth.judge_start(attempt)

    def _should_wait(self, attempt: Attempt) -> bool:
        lead_s = self._playback.lead_s(attempt.turn)
        if not attempt.confirmed and lead_s > self._options.held_s:
            return True  # enough for an answer that may be forgotten
        return self._options.voice_first and lead_s < LEAD_S and self._mouth.busy_with(attempt)

    def _hand_on(self, attempt: Attempt, written: Iterator[Written]) -> None:
        for event in written:
            if isinstance(event, StateDecided):
                self._tell(StateTold(attempt.turn, monotonic(), event.state, event.marked))
                self._cue(AddresseeDecided(attempt.turn, event.state != "noise"))
            elif isinstance(event, TextPiece):
                self._tell(WrittenText(attempt.turn, monotonic(), event.text))
            elif isinstance(event, ReadyClause):
                self._mouth.say(attempt, event)

    def _look(self) -> bool:
        """Read a camera frame into the turn, if one is due."""
        if self._camera is None or self._dialogue.frames >= self._options.frames or self._dialogue.listened:
            return False
        if monotonic() < self._next_frame_s or (frame := self._camera.newest()) is None:
            return False
        begin_s = monotonic()
        if not self._scene.same(frame.pixels):
            with self._tell.span(None, "vision") as work:
                self._seen = self._encoders.watch([frame.pixels], "live")
                work.count = 1
            self._scene.encoded(frame.pixels)
        self._read(None, partial(self._dialogue.see, self._seen))
        self._next_frame_s = max(begin_s + FRAME_S, 2 * monotonic() - begin_s)
        self._tell(FrameSeen(frame.at_s, frame.number))
        return True

    def _listen(self) -> bool:
        """Encode what is new of the user's sound, or read what is encoded, if there is enough of it."""
        more_frames = self._camera is not None and self._dialogue.frames < self._options.frames
        if not self._options.stream_audio or self._ear is None or self.user_is_silent:
            return False
        samples = self._ear()
        if self._dialogue.worth_hearing(len(samples)):
            with self._tell.span(None, "audio") as work:
                work.count = ROW_MS * self._dialogue.hear(samples, ended=False)
            return True
        if more_frames or not self._dialogue.worth_listening or monotonic() < self._next_listen_s:
            return False
        begin_s = monotonic()
        self._read(None, self._dialogue.listen)
        # while it reads, the end of the sentence has to wait: the longer that takes, the more rarely it is done
        self._next_listen_s = monotonic() + 2 * (monotonic() - begin_s)
        return True

    def _recollect(self) -> bool:
        """Read a slice of what stays of the history, once the context is nearly full."""
        dialogue = self._dialogue
        before = dialogue.timeline.position
        if not dialogue.recollecting:
            return dialogue.fullness >= NEARLY_FULL and dialogue.remember_less(KEPT)
        begin_s = monotonic()
        with self._tell.span(None, "memory") as work:
            work.count = dialogue.recollect(self._slice)
        if work.count:
            rate = work.count / (monotonic() - begin_s)
            self._slice = min(max(int(rate * SLICE_S), 8), 512)
        if not dialogue.recollecting:
            self._tell(HistoryShortened(monotonic(), dialogue.turns, before, dialogue.timeline.position))
        return True

    def _read(self, turn: int | None, reading: Callable[[], Any]) -> Any:
        """Do something that reads into the timeline, and tell how much that was."""
        timeline = self._dialogue.timeline
        with self._tell.span(turn, "prefill") as work:
            before = timeline.tokens_read
            result = reading()
            work.count = timeline.tokens_read - before
        return result

    def _stop(self, attempt: Attempt) -> None:
        if self._attempt is attempt:
            self._attempt = self._work = None

    def _tell_ended(self, attempt: Attempt, *, finished: bool) -> None:
        writer = attempt.writer
        self._tell(TurnEnded(attempt.turn, monotonic(), writer.state, writer.text.strip(), finished))


def _nothing() -> None:
    """An order to look again whether there is something to do."""
