"""An answer that came too soon is withdrawn: both parts are one question, as if it had been said in one go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from support.watched_session import WatchedTalk
from vita_edge.runtime import Assistant, Sound, demo_folder, read_sound
from vita_edge.runtime.events.session_events import (
    FirstSound,
    Interrupted,
    ResponseWithdrawn,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
)
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.turns.turn_events import TurnTimes

EAGER = LiveOptions(max_new_tokens=60, speech_top_k=1, times=TurnTimes(endpoint_ms=300, withdraw_ms=500))
PATIENT = replace(EAGER, times=TurnTimes(endpoint_ms=1500))


@pytest.fixture(scope="module")
def demo() -> Iterator[Assistant]:
    with Assistant(demo_folder() / "bundle") as assistant:
        yield assistant


@pytest.fixture(scope="module")
def halves() -> Sound:
    """A question, half a second to think, and the question again."""
    question = read_sound(demo_folder() / "question.wav")
    rate = question.sample_rate_hz
    speech = question.heard_channel[: round(1.66 * rate)]
    return Sound(np.concatenate([speech, np.zeros(rate // 2, np.float32), speech]), rate)


def test_both_parts_are_one_question_with_the_same_answer(demo: Assistant, halves: Sound) -> None:
    said = []
    for options in (EAGER, PATIENT):
        with WatchedTalk(demo, options) as talk:
            talk.say(halves)
            ended = talk.next(TurnEnded)
            heard, _ = talk.room.heard(talk.reported(FirstSound)[-1].at_s)
            said.append((ended.text, talk.talk.session.tokens, heard[: round(0.5 * 24_000)]))
            if options is EAGER:
                (withdrawn,) = talk.reported(ResponseWithdrawn)
                assert 0 < withdrawn.audible_s <= 0.75
                assert "withdrawn" in [one.why for one in talk.reported(TurnForgotten)]
                assert talk.reported(Interrupted) == []
                begins = {round(began.speech_begin_s, 3) for began in talk.reported(TurnBegan)}
                assert len(begins) == 1  # the question begins where its first part does
            else:
                assert talk.reported(ResponseWithdrawn) == []
    (text, position, heard), (patient_text, patient_position, patient_heard) = said
    assert (text, position) == (patient_text, patient_position) and text
    np.testing.assert_array_equal(heard, patient_heard)


def test_the_reply_fades_within_a_block(demo: Assistant, halves: Sound) -> None:
    with WatchedTalk(demo, EAGER) as talk:
        talk.say(halves)
        if not talk.reported(ResponseWithdrawn):
            talk.next(ResponseWithdrawn)
        (withdrawn,) = talk.reported(ResponseWithdrawn)
        talk.live(0.1)
        samples, _ = talk.room.heard(withdrawn.at_s, withdrawn.at_s + 0.05)
        assert np.abs(samples).max() == 0
        before, _ = talk.room.heard(withdrawn.at_s - 0.1, withdrawn.at_s)
        assert np.abs(np.diff(before)).max() < 0.2  # no click
