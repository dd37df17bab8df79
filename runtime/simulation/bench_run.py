"""Recorded questions, asked in real time in a simulated room, through the whole live path: what `vita-edge bench` runs.

The room knows when a question really ends and when the reply is really heard, so it reads the acoustic clock.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np

from vita_edge.engines.errors import BadInput

from ..audio_io.sound import Sound, read_sound
from ..events.session_events import (
    Happening,
    Observer,
    TalkState,
    TalkStateChanged,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
)
from ..metrics.bench_result import BenchTurn
from ..metrics.turn_metrics import TurnReports
from ..metrics.turn_report import TurnReport
from ..session.assistant import Assistant
from ..session.live_options import LiveOptions
from ..session.live_session import LiveTalk
from .room import Room, Utterance

__all__ = ["BenchRun", "Question", "read_questions"]

SOUNDS = (".wav", ".flac", ".ogg")
QUIET = 0.01
"""Of the loudest sample: what is quieter at the end of a recording is not speech any more."""
EARLY_MS = 300.0
"""An answer to a question that had this much still to come is an answer to something else."""
UNHEARD_S = 3.0
"""After a question, when nobody has taken it for speech."""
SILENCE_S = 0.4
"""Before each question, and up to as much more by chance, so that blocks and steps fall anywhere."""


@dataclass(frozen=True)
class Question:
    """A recording of somebody who asks something."""

    name: str
    sound: Sound

    @property
    def speech_end_s(self) -> float:
        """Its last sample of speech, from its beginning."""
        loudness = np.abs(self.sound.first_channel)
        return float(np.flatnonzero(loudness >= QUIET * loudness.max())[-1]) / self.sound.sample_rate_hz


def read_questions(paths: Sequence[Path]) -> list[Question]:
    """Recordings, and those in folders, by name.

    Raises:
        BadInput: there is none, one cannot be read, or holds nothing but silence.
    """
    files: list[Path] = []
    for path in paths:
        in_folder = path.is_dir()
        files += sorted(file for file in path.iterdir() if file.suffix.lower() in SOUNDS) if in_folder else [path]
    if not files:
        raise BadInput(
            f"There are no recordings in {', '.join(map(str, paths))}.",
            why=f"Looked for {', '.join(SOUNDS)}.",
            fix="Give recorded questions.",
        )
    questions = [Question(file.name, read_sound(file)) for file in files]
    for question in questions:
        if not question.sound.first_channel.any():
            raise BadInput(f"{question.name} is silent.", why="All its samples are 0.", fix="Record it again.")
    return questions


class _Listener:
    """Observes one talk, and knows when a question is done with."""

    def __init__(self) -> None:
        self.reports: list[TurnReport] = []
        self._state: TalkState = "listening"
        self._began, self._ended = False, False
        self._changed = threading.Condition()

    def __call__(self, happening: Happening) -> None:
        with self._changed:
            match happening:
                case TalkStateChanged(_, state):
                    self._state = state
                case TurnBegan():
                    self._began = True
                case TurnEnded():
                    self._ended = True
                case TurnForgotten(_, _, why):
                    self._ended = self._ended or why != "resumed"
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
        options: of the talk; whether answers may be begun before the endpoint is said by :meth:`run`.
        history: ask all questions in one conversation, not each in a fresh one.
        observers: see everything that happens.
        timeout_s: how long an answer may take.
    """

    def __init__(
        self,
        assistant: Assistant,
        questions: Sequence[Question],
        *,
        options: LiveOptions,
        history: bool = False,
        observers: Sequence[Observer] = (),
        timeout_s: float = 120.0,
    ) -> None:
        self._assistant, self._questions, self._options = assistant, questions, options
        self._history, self._observers, self._timeout_s = history, observers, timeout_s
        self._random = np.random.default_rng(0)
        self.left_out: Counter[str] = Counter()
        """Why → questions that gave no turn to count."""

    def run(self, turns: int, speculations: Sequence[bool]) -> Iterator[BenchTurn]:
        """Ask ``turns`` questions under each of ``speculations``, which take turns; yield what was answered.

        With a history there is one conversation for each of ``speculations``, one after the other.
        """
        if self._history:
            for speculation in speculations:
                yield from self._converse(speculation, range(turns))
            return
        for number in range(turns):
            for speculation in speculations:
                yield from self._converse(speculation, [number])

    def _converse(self, speculation: bool, numbers: Sequence[int]) -> Iterator[BenchTurn]:
        listener = _Listener()
        reports = TurnReports(self._assistant.bundle.model.codec, listener.reports.append)
        times = replace(self._options.times, speculate=speculation)
        room = Room(keep_s=self._timeout_s + 60.0)
        with (
            room,
            LiveTalk(
                self._assistant,
                room.microphone,
                room.speaker,
                options=dataclasses.replace(self._options, times=times),
                observers=[reports, listener, *self._observers],
            ) as talk,
        ):
            for number in numbers:
                question = self._questions[number % len(self._questions)]
                position = talk.dialogue.timeline.position
                if report := self._ask(question, room, talk, listener):
                    yield BenchTurn(question.name, speculation, position, report)

    def _ask(self, question: Question, room: Room, talk: LiveTalk, listener: _Listener) -> TurnReport | None:
        listener.expect()
        at_s = monotonic() + SILENCE_S * (1 + float(self._random.random()))
        utterance = room.say(question.sound, at_s)
        answered = listener.wait(utterance.end_s, self._timeout_s)
        talk.wait(0)  # raises what has ended the talk
        if not answered or not listener.reports:
            self.left_out["not answered"] += 1
            return None
        report = _heard(listener.reports[-1], utterance, question, room)
        if len(listener.reports) > 1 or (report.late_ms or 0.0) < -EARLY_MS:
            self.left_out["answered before its end"] += 1
            return None
        return report


def _heard(report: TurnReport, utterance: Utterance, question: Question, room: Room) -> TurnReport:
    """The report with what only the room knows."""
    end_s = utterance.begin_s + question.speech_end_s
    sound_s = room.first_sound_after(end_s)
    return replace(
        report,
        late_ms=round(1000 * (report.speech_end_s - end_s), 3),
        acoustic_ms=None if sound_s is None else round(1000 * (sound_s - end_s), 3),
    )
