"""What is heard of replies, block by block, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.runtime.events.session_events import ClauseHeard, FirstSound, RanDry
from vita_edge.runtime.live.playback import DUCKED, FADE_S, Playback, ReplyHeard, Silenced, Told

RATE = 1000
FADE = int(FADE_S * RATE)


class Heard:
    """A playback, what was pulled from it, and what it has told."""

    def __init__(self) -> None:
        self.reported: list[Told] = []
        self.playback = Playback(RATE, self.reported.append)
        self.now_s = 0.0

    def reply(self, turn: int, *clauses: int, finish: bool = True) -> None:
        """A reply of clauses with that many samples each, of values 1, 2, …; every clause has ten tokens."""
        self.playback.begin(turn)
        for number, samples in enumerate(clauses, 1):
            self.playback.add_clause(turn, f"clause {number}", 10 * number)
            self.playback.add(turn, np.full(samples, number, np.float32))
        if finish:
            self.playback.finish(turn)

    def pull(self, count: int) -> NDArray[np.float32]:
        block = self.playback.pull(count, self.now_s)
        self.now_s += count / RATE
        return block


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_nothing_is_heard_before_it_is_released(heard: Heard) -> None:
    heard.reply(1, 30)
    assert not heard.pull(20).any()
    assert heard.reported == []
    heard.playback.release(1)
    assert (heard.pull(20) == 1).all()
    assert heard.reported == [FirstSound(1, 0.02), ClauseHeard(1, 0.02, "clause 1")]


def test_clauses_follow_each_other_without_a_gap_and_are_told_to_the_sample(heard: Heard) -> None:
    heard.reply(1, 15, 30)
    heard.playback.release(1)
    assert heard.pull(20).tolist() == [1] * 15 + [2] * 5
    assert heard.pull(40).tolist() == [2] * 25 + [0] * 15
    assert heard.reported == [
        FirstSound(1, 0.0),
        ClauseHeard(1, 0.0, "clause 1"),
        ClauseHeard(1, 0.015, "clause 2"),
        ReplyHeard(1, pytest.approx(0.045)),  # type: ignore[arg-type]
    ]
    heard.pull(20)
    assert len(heard.reported) == 4  # it ends once


def test_a_reply_waits_for_its_start_buffer_or_its_end(heard: Heard) -> None:
    heard.reply(1, 30, finish=False)
    heard.playback.release(1)
    heard.playback.start_with(1, 0.05)
    assert not heard.pull(10).any()
    heard.playback.add(1, np.ones(25, np.float32))
    assert heard.pull(10).all()
    heard.reply(2, 5, finish=False)
    heard.playback.forget(1)
    heard.playback.release(2)
    heard.playback.start_with(2, 1.0)
    assert not heard.pull(10).any()
    heard.playback.finish(2)
    assert heard.pull(10).tolist() == [1] * 5 + [0] * 5


def test_running_dry_is_told_with_its_length_when_it_is_over(heard: Heard) -> None:
    heard.reply(1, 15, finish=False)
    heard.playback.release(1)
    heard.playback.start_with(1, 0.0)
    heard.pull(20)
    heard.pull(20)
    assert not any(isinstance(each, RanDry) for each in heard.reported)
    heard.playback.add(1, np.ones(5, np.float32))
    heard.pull(20)
    (dry,) = (each for each in heard.reported if isinstance(each, RanDry))
    assert (dry.at_s, dry.seconds) == (pytest.approx(0.015), pytest.approx(0.025))


def test_a_reply_without_sound_ends_when_it_is_released(heard: Heard) -> None:
    heard.reply(1)
    heard.pull(20)
    assert heard.reported == []
    heard.playback.release(1)
    heard.pull(20)
    assert heard.reported == [ReplyHeard(1, 0.02)]


def test_ducking_is_quieter_by_14_db_and_comes_and_goes_within_a_few_milliseconds(heard: Heard) -> None:
    heard.reply(1, 300)
    heard.playback.release(1)
    heard.pull(20)
    heard.playback.duck(True)
    block = heard.pull(20)
    assert block[0] == 1 and np.all(np.diff(block[:FADE]) < 0)
    np.testing.assert_allclose(block[FADE:], DUCKED)
    heard.playback.duck(False)
    assert (heard.pull(20)[FADE:] == 1).all()


def test_silence_comes_within_one_block_fades_and_says_when(heard: Heard) -> None:
    heard.reply(1, 300)
    heard.playback.release(1)
    heard.pull(20)
    heard.playback.silence(1)
    block = heard.pull(20)
    assert block[0] == 1 and block[FADE - 1] == 0 and not block[FADE:].any()
    assert heard.reported[-1] == Silenced(1, pytest.approx(0.02 + FADE_S))  # type: ignore[arg-type]
    assert not heard.pull(20).any()
    assert heard.playback.lead_s(1) == pytest.approx(0.28)  # what was faded was not used up


def test_a_resumed_reply_goes_on_where_it_was_silenced(heard: Heard) -> None:
    heard.reply(1, 30, 30)
    heard.playback.release(1)
    heard.pull(20)
    heard.playback.silence(1)
    heard.pull(20)
    heard.playback.resume(1)
    block = heard.pull(20)
    assert block[0] == 0  # faded in
    assert block[FADE:].tolist() == [1] * (10 - FADE) + [2] * 10


def test_a_new_reply_is_heard_as_it_is_while_an_old_one_is_silenced(heard: Heard) -> None:
    heard.reply(1, 300)
    heard.playback.release(1)
    heard.pull(20)
    heard.playback.duck(True)
    heard.playback.silence(1)
    heard.pull(20)
    heard.playback.duck(False)
    heard.reply(2, 60)
    heard.playback.release(2)
    heard.pull(20)
    assert (heard.pull(20) == 1).all()


def test_what_was_heard_counts_whole_clauses_and_the_share_of_the_last(heard: Heard) -> None:
    heard.reply(1, 40, 50)
    heard.playback.release(1)
    assert heard.playback.tokens_heard(1) == 0
    heard.pull(20)
    assert heard.playback.tokens_heard(1) == 5
    heard.pull(20)
    assert heard.playback.tokens_heard(1) == 10
    heard.pull(25)
    assert heard.playback.tokens_heard(1) == 15
    heard.pull(25)
    assert heard.playback.tokens_heard(1) == 20
    assert heard.playback.tokens_heard(2) == 0


def test_sound_of_a_forgotten_reply_is_dropped(heard: Heard) -> None:
    heard.reply(1, 30)
    heard.playback.forget(1)
    heard.playback.add(1, np.ones(10, np.float32))
    heard.playback.release(1)
    assert not heard.pull(50).any()
    assert heard.reported == []
