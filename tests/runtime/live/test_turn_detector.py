"""A turn detector in a live talk: it moves the endpoint, and whatever becomes of it, the talk goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.watched_session import WatchedTalk, told_what_to_say
from vita_edge.runtime import Assistant, Sound, read_sound
from vita_edge.runtime.events.session_events import FirstSound, Trouble, TurnBegan
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.turns.endpoint_policy import EAGERNESS
from vita_edge.runtime.turns.turn_events import TurnTimes

PLAYING_S = 0.04
"""From the endpoint to the sound, about."""
OPTIONS = LiveOptions(max_new_tokens=8, speech_top_k=1, times=TurnTimes(policy=EAGERNESS["high"]))


class Detector:
    name = "test detector"

    def __init__(self, report: Callable[[], float]) -> None:
        self._report = report
        self.heard_s: list[float] = []

    def probability(self, turn: NDArray[np.float32]) -> float:
        assert turn.dtype == np.float32
        self.heard_s.append(turn.size / 16_000)
        return self._report()


@pytest.fixture(scope="module")
def demo(random_bundle: Path) -> Iterator[Assistant]:
    with Assistant(random_bundle) as assistant:
        yield assistant


@pytest.fixture
def question(demo: Assistant, monkeypatch: pytest.MonkeyPatch) -> Sound:
    """One word, which is answered with another."""
    monkeypatch.setattr(demo, "language_model", told_what_to_say(demo, lambda: "☞Yes."))
    return read_sound(Path(__file__).parents[2] / "data" / "stop-en-us.flac")


def endpoint_s(demo: Assistant, question: Sound, detector: Detector, options: LiveOptions = OPTIONS) -> float:
    """From the end of the voice to the first sound of the answer, by the clock of the room."""
    with WatchedTalk(demo, options, turn_detector=detector) as talk:
        talk.say(question)
        if not talk.reported(FirstSound):
            talk.next(FirstSound)
        (first,) = talk.reported(FirstSound)
        began = next(one for one in talk.reported(TurnBegan) if one.turn == first.turn)
        return first.at_s - began.speech_end_s


@pytest.mark.parametrize(("probability", "silence_s"), [(0.99, 0.224 + PLAYING_S), (0.0, 1.216 + PLAYING_S)])
def test_the_endpoint_comes_when_the_detector_says(
    demo: Assistant, question: Sound, probability: float, silence_s: float
) -> None:
    detector = Detector(lambda: probability)
    assert endpoint_s(demo, question, detector) == pytest.approx(silence_s, abs=0.04)
    assert detector.heard_s[-1] > 0.3  # the turn, not the silence alone


def fails() -> float:
    raise RuntimeError("bad graph")


def test_a_detector_that_fails_is_named_once_and_the_fixed_silence_takes_over(demo: Assistant, question: Sound) -> None:
    with WatchedTalk(demo, OPTIONS, turn_detector=Detector(fails)) as talk:
        for _ in range(2):
            talk.say(question)
            talk.live(3.0)
        assert len(talk.reported(FirstSound)) == 2
        (trouble,) = talk.reported(Trouble)
        assert "test detector" in trouble.what and "bad graph" in trouble.why
    assert endpoint_s(demo, question, Detector(fails)) == pytest.approx(0.512 + PLAYING_S, abs=0.04)


def test_without_a_policy_nobody_asks_the_detector(demo: Assistant, question: Sound) -> None:
    detector = Detector(lambda: 0.99)
    fixed = replace(OPTIONS, times=TurnTimes())
    assert endpoint_s(demo, question, detector, fixed) == pytest.approx(0.512 + PLAYING_S, abs=0.04)
    assert detector.heard_s == []
