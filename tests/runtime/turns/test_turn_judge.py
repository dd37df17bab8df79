"""The thread that asks a turn detector: it never blocks who asks, and gives up what fails or is slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.engines.errors import VitaEdgeError
from vita_edge.runtime.turns import turn_judge
from vita_edge.runtime.turns.turn_events import CompletenessEstimated, TurnEvent
from vita_edge.runtime.turns.turn_judge import TurnJudge

TURN = np.zeros(1600, np.float32)


class Detector:
    """Tells what ``tell`` returns."""

    name = "test detector"

    def __init__(self, report: Callable[[], float]) -> None:
        self._report = report
        self.heard: list[int] = []

    def probability(self, turn: NDArray[np.float32]) -> float:
        self.heard.append(turn.size)
        return self._report()


@contextmanager
def judging(detector: Detector) -> Iterator[tuple[TurnJudge, list[TurnEvent], list[VitaEdgeError]]]:
    reported: list[TurnEvent] = []
    complaints: list[VitaEdgeError] = []
    judge = TurnJudge(detector, reported.append, complaints.append)
    judge.enter()
    try:
        yield judge, reported, complaints
    finally:
        judge.leave()


def rest(judge: TurnJudge) -> None:
    deadline_s = time.monotonic() + 5
    while not judge.resting and time.monotonic() < deadline_s:
        time.sleep(0.001)
    assert judge.resting


def test_it_is_asked_once_for_each_silence_when_it_is_long_enough() -> None:
    detector = Detector(lambda: 0.7)
    with judging(detector) as (judge, reported, _):
        for now_s in (1.032, 1.064, 1.096, 1.128, 1.160):
            judge.consider(1.0, now_s, lambda: TURN)
            rest(judge)
        judge.consider(2.0, 2.096, lambda: TURN[:10])
        rest(judge)
    assert reported == [CompletenessEstimated(1.0, 0.7), CompletenessEstimated(2.0, 0.7)]
    assert detector.heard == [1600, 10]


def test_who_asks_does_not_wait() -> None:
    release = threading.Event()
    detector = Detector(lambda: float(release.wait(5)))
    with judging(detector) as (judge, _, _):
        begin_s = time.monotonic()
        for i in range(20):
            judge.consider(float(i), i + 0.1, lambda: TURN)
        assert time.monotonic() - begin_s < 0.2
        release.set()
        rest(judge)
    assert len(detector.heard) <= 3  # silences that are over are not judged


def fails() -> float:
    raise RuntimeError("bad graph\nand more")


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (fails, "RuntimeError: bad graph"),
        (lambda: float("nan"), "no probability"),
        (lambda: 1.5, "no probability"),
        (lambda: None, "TypeError"),
    ],
)
def test_a_detector_that_fails_is_named_once_and_not_asked_again(report: Callable[[], float], why: str) -> None:
    detector = Detector(report)
    with judging(detector) as (judge, reported, complaints):
        for i in range(4):
            judge.consider(float(i), i + 0.1, lambda: TURN)
            rest(judge)
    assert reported == [] and len(detector.heard) == 1
    (complaint,) = complaints
    assert "test detector" in complaint.what and "fixed silence" in complaint.what and why in complaint.why


def test_a_detector_that_is_always_slow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_judge, "SLOW_S", 0.01)
    detector = Detector(lambda: time.sleep(0.02) or 0.5)
    with judging(detector) as (judge, reported, complaints):
        for i in range(6):
            judge.consider(float(i), i + 0.1, lambda: TURN)
            rest(judge)
    assert len(detector.heard) == 3 and len(reported) == 2
    (complaint,) = complaints
    assert "10 ms 3 times in a row" in complaint.why
