"""Whole live talks in a simulated room: microphone to speaker, through all threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.watched_session import WatchedTalk, told_what_to_say
from vita_edge.runtime import Assistant, Sound, read_sound
from vita_edge.runtime.events.session_events import (
    ClauseHeard,
    EndpointReached,
    FirstPcm,
    FirstSound,
    Interrupted,
    Span,
    TalkStateChanged,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
)
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.turns.turn_events import TurnTimes

GREEDY = LiveOptions(max_new_tokens=400, speech_top_k=1)
SHORT = replace(GREEDY, max_new_tokens=24)
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


def states(talk: WatchedTalk) -> list[str]:
    return [change.state for change in talk.reported(TalkStateChanged)]


@pytest.fixture
def words(demo: Assistant, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every question is answered with, the only entry; it may be changed while the talk goes on."""
    said = ["☞Yes."]
    monkeypatch.setattr(demo, "language_model", told_what_to_say(demo, lambda: said[0]))
    return said


def test_a_question_is_answered_aloud(demo: Assistant, question: Sound) -> None:
    with WatchedTalk(demo, SHORT) as talk:
        talk.say(question)
        ended = talk.next(TurnEnded)
        assert ended.text and talk.room.first_sound_after(0.0) is not None
    began, first = talk.reported(TurnBegan)[-1], talk.reported(FirstSound)[-1]
    assert first.turn == began.turn == ended.turn
    assert 0.5 <= first.at_s - began.speech_end_s <= 0.6  # the endpoint's silence, and hardly more
    heard = "".join(clause.text for clause in talk.reported(ClauseHeard)).strip()
    assert heard == ended.text
    assert states(talk)[-2:] == ["speaking", "listening"]


def test_speculation_changes_when_it_is_made_and_nothing_of_what_is_heard(demo: Assistant, question: Sound) -> None:
    heard, texts, made = [], [], []
    for speculate in (True, False):
        options = replace(SHORT, times=TurnTimes(speculate=speculate), speech_top_k=2, seed=3)
        with WatchedTalk(demo, options) as talk:
            talk.say(question)
            texts.append(talk.next(TurnEnded).text)
            pcm, _ = talk.room.heard()
        heard.append(np.trim_zeros(pcm))
        order = [type(h) for h in talk.events if isinstance(h, (FirstPcm, EndpointReached))]
        made.append(order[-2:])
    assert texts[0] == texts[1]
    np.testing.assert_array_equal(heard[0], heard[1])
    assert made == [[FirstPcm, EndpointReached], [EndpointReached, FirstPcm]]


def test_a_pause_inside_a_question_is_not_its_end(demo: Assistant, question: Sound) -> None:
    with WatchedTalk(demo, SHORT) as talk:
        talk.say(question)
        talk.next(TurnEnded)
    forgotten = talk.reported(TurnForgotten)
    assert [each.why for each in forgotten] == ["resumed"]
    first, last = talk.reported(TurnBegan)
    assert first.speech_begin_s == pytest.approx(last.speech_begin_s)
    assert talk.reported(FirstSound)[0].turn == last.turn


@pytest.mark.parametrize("stream_audio", [False, True])
def test_as_little_is_read_after_the_endpoint_of_the_twentieth_turn_as_of_the_first(
    demo: Assistant, stop: Sound, words: list[str], stream_audio: bool
) -> None:
    with WatchedTalk(demo, replace(GREEDY, stream_audio=stream_audio)) as talk:
        for _ in range(20):
            talk.say(stop)
            talk.next(TurnEnded)
        assert talk.talk.session.turns == 20
    read = [
        sum(s.count for s in talk.reported(Span) if s.turn == turn and s.stage == "prefill") for turn in range(1, 21)
    ]
    # the word begins anywhere in a step of 32 ms, and a position is 80 ms of it
    assert max(read) - min(read) <= 2
    assert abs(sum(read[:10]) - sum(read[10:])) <= 10
    assert max(read) < 25


def test_only_the_end_of_a_question_is_encoded_after_it(demo: Assistant, question: Sound) -> None:
    with WatchedTalk(demo, SHORT) as talk:
        talk.say(question)
        ended = talk.next(TurnEnded)
    heard_ms: dict[int | None, int] = {}
    for span in talk.reported(Span):
        if span.stage == "audio":
            heard_ms[span.turn] = heard_ms.get(span.turn, 0) + span.count
    assert heard_ms[None] > 2000
    assert heard_ms[ended.turn] < 1000


def test_a_short_word_is_heard(demo: Assistant, stop: Sound, words: list[str]) -> None:
    with WatchedTalk(demo, GREEDY) as talk:
        talk.say(stop)
        assert talk.next(TurnEnded).text == "Yes."


def test_noise_is_not_answered_and_not_remembered(demo: Assistant, question: Sound, words: list[str]) -> None:
    words[0] = "☟no."
    with WatchedTalk(demo, GREEDY) as talk:
        before = talk.talk.session.tokens
        talk.say(question)
        talk.live(1.0)
        assert talk.reported(TurnForgotten)[-1].why == "noise"
        assert talk.room.first_sound_after(0.0) is None
        assert states(talk)[-1] == "listening"
        assert talk.talk.session.tokens == before and talk.talk.session.turns == 0


def test_an_interruption_silences_the_reply_and_history_keeps_what_was_heard(
    demo: Assistant, question: Sound, stop: Sound, words: list[str]
) -> None:
    words[0] = LONG
    with WatchedTalk(demo, GREEDY) as talk:
        talk.say(question)
        talk.next(FirstSound)
        talk.live(0.6)
        words[0] = "☞No."
        talk.room.say(stop)
        cut = talk.next(Interrupted)
        assert 0 < cut.tokens_heard < cut.tokens_written
        reply = [s for s in talk.talk.session.history.timeline.segments if s.kind == "reply"]
        assert [segment.tokens for segment in reply] == [cut.tokens_heard]
        silent_s = talk.room.now_s + 0.05
        talk.live(0.1)
        assert talk.room.first_sound_after(silent_s) is None
        ended = talk.next(TurnEnded)
        assert (ended.turn, ended.finished) == (cut.turn, False)
        again = talk.next(FirstSound)
        assert again.turn > cut.turn
    assert "interrupted" in states(talk)


def test_noise_over_a_reply_pauses_it_and_it_goes_on_with_the_same_words(
    demo: Assistant, question: Sound, stop: Sound, words: list[str]
) -> None:
    heard = []
    for disturbed in (False, True):
        words[0] = LONG
        with WatchedTalk(demo, replace(GREEDY, speech_top_k=2)) as talk:
            talk.say(question)
            talk.next(FirstSound)
            if disturbed:
                words[0] = "☟"
                talk.live(0.6)
                talk.room.say(stop)
                talk.next(Interrupted)
            ended = talk.next(TurnEnded)
            assert ended.text == LONG[1:] and ended.finished
            assert talk.talk.session.turns == 1
            heard.append("".join(clause.text for clause in talk.reported(ClauseHeard)))
            heard.append(talk.talk.session.tokens)
    assert heard[:2] == heard[2:]


def test_a_cough_ducks_and_nothing_more(demo: Assistant, question: Sound, words: list[str]) -> None:
    words[0] = LONG
    with WatchedTalk(demo, GREEDY) as talk:
        talk.say(question)
        talk.next(FirstSound)
        talk.live(0.5)
        cough = Sound(question.heard_channel[16000 : 16000 + 2400], 16000)
        talk.say(cough, after_s=0.0)
        talk.next(TurnEnded)
    assert not talk.reported(Interrupted)
    assert "ducking" in states(talk)


def test_with_a_button_only_what_lies_between_is_heard(demo: Assistant, question: Sound, words: list[str]) -> None:
    with WatchedTalk(demo, GREEDY, push_to_talk=True) as talk:
        talk.say(question)
        talk.live(1.0)
        assert states(talk) == ["listening"]
        talk.talk.press()
        talk.live(0.1)
        talk.say(question)
        talk.talk.release()
        began = talk.next(TurnBegan)
        assert began.speech_end_s - began.speech_begin_s == pytest.approx(3.7 + 0.2, abs=0.1)
        talk.next(TurnEnded)


def test_leaving_in_the_middle_of_everything_takes_no_time(demo: Assistant, question: Sound, words: list[str]) -> None:
    import time

    words[0] = LONG
    with WatchedTalk(demo, GREEDY) as talk:
        talk.say(question)
        talk.next(FirstSound)
        begin_s = time.monotonic()
    assert time.monotonic() - begin_s < 1.0


@pytest.mark.parametrize("mode", ["cancel", "half-duplex", "nothing"])
def test_only_without_a_canceller_the_assistant_interrupts_itself(
    demo: Assistant, question: Sound, mode: str, golden: Path
) -> None:
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
    try:
        from self_interruption import false_interruptions, far_end
    finally:
        sys.path.pop(0)
    speech = far_end([golden / "data" / "inputs" / "en_look.wav"])
    count, heard_s = false_interruptions(demo, question, speech, -12.0, mode, 12.0)
    assert heard_s >= 12.0
    assert (count > 0) == (mode == "nothing")
