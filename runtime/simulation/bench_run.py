"""Recorded questions, asked in real time in a simulated room, through the whole live path: what `vita-edge bench` runs.

The room knows when a question really ends and when the reply is really heard, so it reads the acoustic clock.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

import numpy as np

from ..audio_io.echo_canceller import Headphones
from ..encoders.camera import FrameSource
from ..events.session_events import (
    Observer,
    SessionEvent,
    TalkState,
    TalkStateChanged,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
)
from ..live.live_options import LiveOptions
from ..live.live_session import LiveSession
from ..metrics.bench_result import BenchTurn
from ..metrics.machine_load import MachineSampler
from ..metrics.turn_metrics import TurnReports
from ..metrics.turn_report import TurnReport
from ..session.assistant import Assistant
from ..turns.detector import TurnDetector
from ..turns.turn_events import TurnTimes
from .device_room import DeviceRoom
from .questions import Question
from .room import Room, RoomUtterance

__all__ = ["BenchRun", "Variant", "variants"]

EARLY_MS = 300.0
"""An answer to a question that had this much still to come is an answer to something else."""
UNHEARD_S = 3.0
"""After a question, when nobody has taken it for speech."""
SILENCE_S = 0.4
"""Before each question, and up to as much more by chance, so that blocks and steps fall anywhere."""


@dataclass(frozen=True)
class Variant:
    """One way to hold the talks of a run."""

    times: TurnTimes
    name: str = ""
    """Of the group that its turns make; those of speculation need none."""


def variants(times: TurnTimes, *, paired: bool, eagerness: str | None = None) -> list[Variant]:
    """Speculation as in ``times``; ``paired``: on and off; with ``eagerness``: its policy, and a fixed silence."""
    if eagerness:
        fixed = Variant(replace(times, policy=None), f"fixed {times.endpoint_ms} ms")
        return [Variant(times, f"eagerness {eagerness}"), fixed]
    choices = (True, False) if paired else (times.speculate,)
    return [Variant(replace(times, speculate=on)) for on in choices]


class _Listener:
    """Observes one talk, and knows when a question is done with."""

    def __init__(self) -> None:
        self.reports: list[TurnReport] = []
        self._state: TalkState = "listening"
        self._began, self._ended = False, False
        self._changed = threading.Condition()

    def __call__(self, event: SessionEvent) -> None:
        with self._changed:
            match event:
                case TalkStateChanged(_, state):
                    self._state = state
                case TurnBegan():
                    self._began = True
                case TurnEnded():
                    self._ended = True
                case TurnForgotten(_, _, why):
                    self._ended = self._ended or why not in ("resumed", "withdrawn")
                case _:
                    return
            self._changed.notify_all()

    def expect(self) -> None:
        """A question is about to be asked."""
        with self._changed:
            self.reports.clear()
            self._began = self._ended = False

    def wait(self, question_end_s: float, timeout_s: float) -> bool:
        """Wait until the question was answered and it is quiet again; False when that did not happen."""
        with self._changed:
            while True:
                now = monotonic()
                listening = self._state == "listening"
                if listening and self._ended and now > question_end_s:
                    return True
                if now > question_end_s + (timeout_s if self._began else UNHEARD_S):
                    return False
                self._changed.wait(0.1)


class BenchRun:
    """Asks ``questions`` one after the other, from the first again when they are through.

    Args:
        options: of the talk; its times are said by :meth:`run`.
        history: ask all questions in one conversation, not each in a fresh one.
        camera: sees what the questions are about.
        observers: see everything that happens.
        machine: samples the machine meanwhile.
        turn_detector: says how likely a question is over, under variants with a policy.
        room: makes the room of each conversation; a simulated one, without it.
        timeout_s: how long an answer may take.
    """

    def __init__(
        self,
        assistant: Assistant,
        questions: Sequence[Question],
        *,
        options: LiveOptions,
        history: bool = False,
        camera: FrameSource | None = None,
        observers: Sequence[Observer] = (),
        machine: MachineSampler | None = None,
        turn_detector: TurnDetector | None = None,
        room: Callable[[], Room | DeviceRoom] | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self._assistant, self._questions, self._options = assistant, questions, options
        self._history, self._camera, self._timeout_s = history, camera, timeout_s
        self._observers, self._machine, self._turn_detector = observers, machine, turn_detector
        self._room = room or partial(Room, keep_s=timeout_s + 60.0)
        self._random = np.random.default_rng(0)
        self.left_out: dict[str, Counter[str]] = {}
        """Why → question → how often it gave no turn to count."""

    def run(self, turns: int, variants: Sequence[Variant]) -> Iterator[BenchTurn]:
        """Ask ``turns`` questions under each of ``variants``, which take turns; yield what was answered.

        With a history there is one conversation for each variant, one after the other.
        """
        if self._history:
            for variant in variants:
                yield from self._converse(variant, range(turns))
            return
        for number in range(turns):
            for variant in variants:
                yield from self._converse(variant, [number])

    def _converse(self, variant: Variant, numbers: Sequence[int]) -> Iterator[BenchTurn]:
        listener = _Listener()
        reports = TurnReports(self._assistant.bundle.model.codec, listener.reports.append, self._machine)
        room = self._room()
        with (
            room,
            LiveSession(
                self._assistant,
                room.microphone,
                room.speaker,
                options=replace(self._options, times=variant.times),
                camera=self._camera,
                canceller=Headphones(),
                turn_detector=self._turn_detector,
                observers=[reports, listener, *self._observers],
            ) as talk,
        ):
            for number in numbers:
                question = self._questions[number % len(self._questions)]
                position = talk.session.tokens
                if report := self._ask(question, room, talk, listener):
                    yield BenchTurn(question.name, variant.times.speculate, position, report, variant.name)

    def _ask(
        self, question: Question, room: Room | DeviceRoom, talk: LiveSession, listener: _Listener
    ) -> TurnReport | None:
        listener.expect()
        at_s = monotonic() + SILENCE_S * (1 + float(self._random.random()))
        utterance = room.say(question.sound, at_s)
        answered = listener.wait(utterance.end_s, self._timeout_s)
        talk.wait(0)  # raises what has ended the talk
        if not answered or not listener.reports:
            self._leave_out("not answered", question)
            return None
        report = _heard(listener.reports[-1], utterance, question, room)
        too_soon = (report.late_ms or 0.0) < -EARLY_MS or (report.acoustic_ms or 0.0) < 0
        if len(listener.reports) > 1 or too_soon:
            self._leave_out("answered before its end", question)
            return None
        return report

    def _leave_out(self, why: str, question: Question) -> None:
        self.left_out.setdefault(why, Counter())[question.name] += 1


def _heard(report: TurnReport, utterance: RoomUtterance, question: Question, room: Room | DeviceRoom) -> TurnReport:
    """The report with what only the room knows."""
    utterance = room.located(utterance, question.sound)
    end_s = utterance.begin_s + question.speech_end_s
    sound_s = room.first_sound_after(utterance.begin_s)  # a sound before the end counts, below zero
    return replace(
        report,
        late_ms=round(1000 * (report.speech_end_s - end_s), 3),
        acoustic_ms=None if sound_s is None else round(1000 * (sound_s - end_s), 3),
    )
