"""What a program can do to a live session while it runs, and what its mistakes cost."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.watched_session import WatchedTalk, told_what_to_say
from vita_edge.engines.errors import InferenceFailed
from vita_edge.runtime import Assistant, Sound, read_sound
from vita_edge.runtime.audio_io.echo_canceller import EchoCanceller
from vita_edge.runtime.encoders.camera import Frame
from vita_edge.runtime.events.session_events import (
    FirstSound,
    FrameSeen,
    Interrupted,
    SessionEvent,
    TalkStateChanged,
    Trouble,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
)
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.live.live_session import LiveSession
from vita_edge.runtime.simulation.room import Room
from vita_edge.runtime.turns.turn_events import TurnTimes

GREEDY = LiveOptions(max_new_tokens=400, speech_top_k=1)
LONG = "☞" + " ".join(["One two three four five six, seven eight nine ten eleven, and so on to the end."] * 6)


@pytest.fixture(scope="module")
def demo(random_bundle: Path) -> Iterator[Assistant]:
    with Assistant(random_bundle) as assistant:
        yield assistant


@pytest.fixture(scope="module")
def question(long_question: Path) -> Sound:
    return read_sound(long_question)


@pytest.fixture(scope="module")
def stop() -> Sound:
    return read_sound(Path(__file__).parents[2] / "data" / "stop-en-us.flac")


@pytest.fixture
def words(demo: Assistant, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every question is answered with, the only entry; it may be changed while the session goes on."""
    said = ["☞Yes."]
    monkeypatch.setattr(demo, "language_model", told_what_to_say(demo, lambda: said[0]))
    return said


def test_a_reply_that_is_cancelled_is_silent_and_the_history_keeps_what_was_heard(
    demo: Assistant, question: Sound, stop: Sound, words: list[str]
) -> None:
    words[0] = LONG
    with WatchedTalk(demo, GREEDY) as talk:
        talk.say(question)
        talk.next(FirstSound)
        talk.live(0.6)
        talk.talk.cancel_response()
        cut = talk.next(Interrupted)
        assert 0 < cut.tokens_heard < cut.tokens_written
        silent_s = talk.room.now_s + 0.05
        talk.live(1.0)
        assert talk.room.first_sound_after(silent_s) is None
        assert talk.reported(TurnEnded)[-1].finish_reason == "interrupted"
        assert talk.reported(TalkStateChanged)[-1].state == "listening"
        assert talk.talk.session.turns == 1
        assert not talk.talk._control.responses
        words[0] = "☞No."
        talk.say(stop)
        assert talk.next(TurnEnded).text == "No."


def test_a_response_that_is_cancelled_before_it_is_heard_leaves_no_trace(
    demo: Assistant, stop: Sound, words: list[str]
) -> None:
    words[0] = LONG
    with WatchedTalk(demo, GREEDY) as talk:
        before = talk.talk.session.tokens
        talk.say(stop)
        while talk.talk.state != "pausing":
            talk.live(0.01)
        talk.live(0.2)
        assert talk.reported(TurnBegan)
        talk.talk.cancel_response()
        talk.live(1.0)
        assert talk.reported(TurnForgotten)[-1].why == "stopped"
        assert talk.room.first_sound_after(0.0) is None
        assert (talk.talk.session.tokens, talk.talk.session.turns) == (before, 0)
        assert not talk.talk._control.responses


def test_where_nothing_is_said_there_is_nothing_to_cancel(demo: Assistant, words: list[str], stop: Sound) -> None:
    with WatchedTalk(demo, GREEDY) as talk:
        talk.talk.cancel_response()
        talk.live(0.2)
        assert [change.state for change in talk.reported(TalkStateChanged)] == ["listening"]
        talk.say(stop)
        assert talk.next(TurnEnded).text == "Yes."


def test_the_next_visitor_meets_an_empty_history_and_other_instructions(
    demo: Assistant, question: Sound, stop: Sound, words: list[str]
) -> None:
    with WatchedTalk(demo, GREEDY) as talk:
        before = talk.talk.session.tokens
        talk.say(stop)
        talk.next(TurnEnded)
        assert talk.talk.session.turns == 1
        talk.talk.reset()
        talk.live(0.2)
        assert (talk.talk.session.turns, talk.talk.session.tokens) == (0, before)
        talk.talk.set_instructions("You are the guide of a museum, and answer in one sentence of at most ten words.")
        talk.live(0.2)
        assert talk.talk.session.tokens != before
        talk.say(stop)
        assert talk.next(TurnEnded).text == "Yes."
        words[0] = LONG
        talk.say(question)
        talk.next(FirstSound)
        talk.talk.reset()  # in the middle of a reply
        talk.live(0.5)
        assert talk.talk.session.turns == 0 and not talk.talk._control.responses


@pytest.mark.integration
def test_two_hundred_failed_answers_leave_nothing_behind(
    demo: Assistant, stop: Sound, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(times: int) -> int:
        for _ in range(times):
            talk.room.say(stop)
            talk.next(TurnForgotten)
            talk.live(0.3)
        talk.events.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    options = replace(GREEDY, times=TurnTimes(max_utterance_ms=2000))
    with WatchedTalk(demo, options, Room(noise_dbfs=None, start_s=0.0, keep_s=1.0)) as talk:
        encoder = demo.encoders._audio
        infer = encoder.infer

        def broken(feeds: dict[str, object], *rest: object) -> object:
            if talk.reported(TurnBegan):  # the end of a clip, not what is heard ahead
                raise InferenceFailed("The graph audio failed while it ran.", why="A test.", fix="None.")
            return infer(feeds, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(encoder, "infer", broken)
        tracemalloc.start()
        try:
            before = fail(20)
            after = fail(200)
        finally:
            tracemalloc.stop()
        monkeypatch.undo()
        assert (
            not talk.talk._control.responses and not talk.talk._generation._answers and not talk.talk._speech._replies
        )
        assert after - before < 300_000  # of 200 clips of 40,000 bytes each
        assert talk.talk.session.turns == 0


def test_an_observer_that_raises_is_told_once_and_the_others_see_all(
    demo: Assistant, stop: Sound, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[SessionEvent] = []
    calls: list[SessionEvent] = []

    def bad(event: SessionEvent) -> None:
        calls.append(event)
        raise ValueError("a bug of the program")

    with WatchedTalk(demo, GREEDY) as watched:
        watched.talk._emit._observers[:0] = [bad, seen.append]
        watched.say(stop)
        assert watched.next(TurnEnded).text == "Yes."
    assert len(calls) == 1
    (trouble,) = (event for event in seen if isinstance(event, Trouble))
    assert "bad" in trouble.what and "a bug of the program" in trouble.what
    assert [record.name for record in caplog.records] == ["vita_edge"]
    assert any(isinstance(event, TurnEnded) for event in seen)


class BadCamera:
    lost = False

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = [np.zeros((20, 20, 7), np.uint8), np.full((20, 20, 3), 9, np.uint8)]
        self.number = -1

    def newest(self) -> Frame:
        self.number += 1
        return Frame(self.frames[min(self.number, 1)], 0.0, self.number)  # type: ignore[arg-type]


def test_a_bad_frame_costs_the_frame_and_not_the_session(demo: Assistant, question: Sound, words: list[str]) -> None:
    camera = BadCamera()
    with WatchedTalk(demo, replace(GREEDY, frames=1), camera=camera) as talk:
        talk.say(question)
        assert talk.next(TurnEnded).text == "Yes."
        assert len(talk.reported(Trouble)) == 1
    assert camera.number >= 0
    assert all(seen.number > 0 for seen in talk.reported(FrameSeen))


def test_without_a_word_about_it_the_echo_is_cancelled(demo: Assistant, golden: Path) -> None:
    room = Room(start_s=0.0)
    session = LiveSession(demo, room.microphone, room.speaker)
    assert isinstance(session._canceller, EchoCanceller)


def test_two_live_sessions_share_one_model(demo: Assistant, question: Sound) -> None:
    options = [LiveOptions(max_new_tokens=24, seed=seed) for seed in (1, 2)]
    alone = []
    for each in options:
        with WatchedTalk(demo, each) as talk:
            talk.say(question)
            alone.append((talk.next(TurnEnded).text, np.trim_zeros(talk.room.heard()[0])))
    with WatchedTalk(demo, options[0]) as one, WatchedTalk(demo, options[1]) as other:
        for talk in (one, other):
            talk.room.say(question, talk.room.now_s + 0.1)
        for _ in range(900):
            one.live(0.01)
            other.live(0.01)
        together = [(talk.reported(TurnEnded)[-1].text, np.trim_zeros(talk.room.heard()[0])) for talk in (one, other)]
    for (text, pcm), (requested, heard) in zip(together, alone):
        assert text == requested
        np.testing.assert_array_equal(pcm, heard)
