"""The clock of a turn, told what time it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vita_edge.runtime.events.turn_clock import TurnClock


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_spans_of_one_stage_add_up_and_come_in_the_order_in_which_they_began() -> None:
    hand = Hand()
    clock = TurnClock(hand)
    for stage, seconds in (("prefill", 0.5), ("audio", 0.25), ("prefill", 0.125)):
        with clock.span(stage):
            hand.seconds += seconds
    assert list(clock.latency_ms().items()) == [("prefill", 625.0), ("audio", 250.0)]


def test_a_span_that_fails_is_counted_too() -> None:
    hand = Hand()
    clock = TurnClock(hand)
    with pytest.raises(RuntimeError), clock.span("codec"):
        hand.seconds += 1
        raise RuntimeError
    assert clock.latency_ms() == {"codec": 1000.0}


def test_only_the_source_is_timed_and_not_who_reads_it() -> None:
    hand = Hand()
    clock = TurnClock(hand)

    def source() -> Iterator[int]:
        for number in range(3):
            hand.seconds += 0.001
            yield number
        hand.seconds += 0.001

    for _ in clock.timed("decode", source()):
        hand.seconds += 10
    assert clock.latency_ms() == {"decode": pytest.approx(4.0)}


def test_marks_count_from_the_beginning_and_only_once_and_come_last() -> None:
    hand = Hand()
    clock = TurnClock(hand)
    hand.seconds += 0.3
    clock.mark("first_text")
    hand.seconds += 0.3
    clock.mark("first_text")
    with clock.span("codec"):
        hand.seconds += 0.1
    assert list(clock.latency_ms().items()) == [("codec", pytest.approx(100)), ("first_text", pytest.approx(300))]
