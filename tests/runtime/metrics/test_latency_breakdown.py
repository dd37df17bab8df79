"""What a user waits for: parts that add up to the wait, and the saving that follows from them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from support.events import CODEC, answered, dry_run, talk
from vita_edge.runtime.events.session_events import SessionEvent
from vita_edge.runtime.metrics.latency_breakdown import CAUSES, largest_saving, wait_parts, wait_sums
from vita_edge.runtime.metrics.turn_metrics import TurnReports
from vita_edge.runtime.metrics.turn_report import Stretch, TurnReport


def reports(events: list[SessionEvent]) -> list[TurnReport]:
    made: list[TurnReport] = []
    observer = TurnReports(CODEC, made.append)
    for event in events:
        observer(event)
    return made


def report(events: list[SessionEvent]) -> TurnReport:
    (one,) = reports(events)
    return one


def test_a_moment_belongs_to_the_stage_nearest_to_the_sound() -> None:
    assert wait_parts(report(answered(1, 10.0))) == (
        Stretch("pause", 0, 160),
        Stretch("audio", 160, 200),
        Stretch("prefill", 200, 320),
        Stretch("decode", 320, 560),  # on it goes, but what it writes then is for later
        Stretch("speech_decoder", 560, 660),
        Stretch("codec", 660, 680),
        Stretch("playback", 680, 700),
    )


def test_what_is_ready_in_time_waits_for_nothing_but_the_endpoint() -> None:
    fast = report(answered(1, 10.0, slower=0.5))
    assert fast.first_pcm_ms == 420
    assert wait_sums(fast) == {"endpoint": 600, "playback": 20}


def test_without_speculation_the_endpoint_comes_first_and_then_the_work() -> None:
    sums = wait_sums(report(answered(1, 10.0, speculative=False)))
    assert list(sums.items())[:3] == [("endpoint", 600), ("audio", 40), ("prefill", 120)]


def test_a_buffer_is_waited_for_after_the_first_sound_is_there() -> None:
    buffered = replace(report(dry_run(1, 10.0)), server_ms=1900.0)
    assert buffered.first_pcm_ms == 1720
    assert wait_sums(buffered)["buffer"] == 180
    assert "playback" not in wait_sums(buffered)


def test_time_in_which_nothing_works_is_not_hidden() -> None:
    gap = replace(report(answered(1, 10.0)), wait=(Stretch("audio", 160, 200), Stretch("decode", 300, 680)))
    assert wait_sums(gap) == {"pause": 160, "audio": 40, "hand-over": 100, "decode": 380, "playback": 20}


@pytest.mark.parametrize("late_ms", [-40.0, 0.0, 32.0])
def test_the_parts_add_up_to_the_acoustic_clock(late_ms: float) -> None:
    heard = replace(report(answered(1, 10.0)), late_ms=late_ms, acoustic_ms=760.0)
    parts = wait_parts(heard)
    assert parts[0] == Stretch("pause", 0, 160 + late_ms)
    assert parts[-1] == Stretch("devices", 700 + late_ms, 760)
    assert sum(part.ms for part in parts) == 760.0


def test_parts_follow_each_other_without_a_gap_in_every_kind_of_turn() -> None:
    for one in reports(talk()):
        parts = wait_parts(one)
        assert parts[0].begin_ms == 0 and parts[-1].end_ms == one.server_ms
        assert all(a.end_ms == b.begin_ms and a.name != b.name for a, b in itertools.pairwise(parts))
        assert {part.name for part in parts} <= set(CAUSES)


def test_a_turn_that_was_not_heard_has_no_parts_and_no_saving() -> None:
    silent = replace(report(answered(1, 10.0)), server_ms=None)
    assert wait_parts(silent) == () and largest_saving(silent) is None


def test_a_saving_is_no_larger_than_what_is_waited_for_next() -> None:
    slow = largest_saving(report(answered(1, 10.0)))  # ready 80 ms after the endpoint: no stage saves more
    assert slow is not None and slow.saves_ms == 80
    fast = largest_saving(report(answered(1, 10.0, slower=0.5)))
    assert fast is not None
    assert (fast.cause, fast.waited_ms, fast.saves_ms) == ("endpoint", 600, 180)  # ready at 420
    assert "endpoint_ms" in fast.remedy


def test_a_silence_is_not_made_shorter_than_people_leave_between_turns() -> None:
    instant = largest_saving(report(answered(1, 10.0, slower=0.01)))
    assert instant is not None
    assert (instant.cause, instant.saves_ms) == ("endpoint", 400)


def test_without_speculation_the_saving_is_speculation_if_there_is_work_to_hide() -> None:
    saving = largest_saving(report(answered(1, 10.0, speculative=False)))
    assert saving is not None
    assert (saving.cause, saving.saves_ms) == ("endpoint", 520)
    assert "speculation" in saving.remedy
    quick = largest_saving(report(answered(1, 10.0, speculative=False, slower=0.1)))
    assert quick is not None
    assert (quick.cause, quick.saves_ms) == ("endpoint", 400)
    assert "endpoint_ms" in quick.remedy


def test_the_slowest_stage_is_named() -> None:
    saving = largest_saving(report(answered(1, 10.0, slower=5.0)))
    assert saving is not None and saving.cause == "decode" and saving.saves_ms == 1200


def test_a_buffer_that_held_nothing_back_is_no_wait() -> None:
    turn = replace(report(answered(1, 10.0)), buffer_s=6.0)  # heard 20 ms after it was there
    assert "buffer" not in wait_sums(turn)
    for seconds in (6.0, None):
        assert wait_sums(replace(turn, buffer_s=seconds, server_ms=900.0))["buffer"] == 220


def test_a_buffer_after_the_endpoint_means_that_the_work_was_waited_for() -> None:
    turn = replace(report(answered(1, 10.0, slower=0.5)), buffer_s=0.5, server_ms=900.0)
    assert list(wait_sums(turn)) == ["pause", "audio", "prefill", "decode", "speech_decoder", "codec", "buffer"]
