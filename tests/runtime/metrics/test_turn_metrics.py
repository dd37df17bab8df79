"""Reports of turns, from talks that are written out: every clock is exact to the millisecond."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from support.events import CODEC, answered, barge_in, dry_run, noise, opening, resumed, talk
from vita_edge.runtime.events.session_events import FirstSound, SessionEvent, Span, TurnForgotten
from vita_edge.runtime.metrics.turn_metrics import TurnReports
from vita_edge.runtime.metrics.turn_report import Interruption, Stretch, TurnReport


def reports(events: Iterable[SessionEvent]) -> list[TurnReport]:
    made: list[TurnReport] = []
    observer = TurnReports(CODEC, made.append)
    for event in events:
        observer(event)
    return made


def test_clocks_and_moments_of_a_turn_are_exact() -> None:
    (report,) = reports([*opening(50.0), *answered(7, 51.0)])
    assert (report.turn, report.state, report.finished, report.speculative) == (7, "speech", True, True)
    assert report.text == "It is a quarter past nine. The tea is ready."
    assert (report.speech_end_s, report.speech_s) == (53.0, 2.0)
    assert (report.engine_ms, report.server_ms, report.acoustic_ms) == (520.0, 700.0, None)
    assert (report.started_ms, report.endpoint_ms, report.first_text_ms, report.first_pcm_ms) == (160, 600, 360, 680)


def test_stages_are_summed_over_the_turn_and_over_the_wait() -> None:
    (report,) = reports(answered(1, 10.0))
    assert report.stages_ms == {"audio": 40, "prefill": 120, "decode": 400, "speech_decoder": 400, "codec": 80}
    assert report.waited_ms == {"audio": 40, "prefill": 120, "decode": 380, "speech_decoder": 120, "codec": 20}
    assert report.wait == (
        Stretch("audio", 160, 200),
        Stretch("prefill", 200, 320),
        Stretch("decode", 320, 700),  # ten tokens, joined, and cut where the first sound was heard
        Stretch("speech_decoder", 560, 660),
        Stretch("codec", 660, 680),
        Stretch("speech_decoder", 680, 700),
    )


def test_rates_are_those_of_the_work_and_of_the_sound() -> None:
    (report,) = reports(answered(1, 10.0))
    assert (report.positions, report.positions_after_speech, report.tokens) == (38, 38, 10)
    assert report.prefill_rate == pytest.approx(38 / 0.120, abs=1e-3)
    assert report.decode_rate == 25.0
    assert report.spoken_s == 1.3
    assert report.speech_decoder_rtf == pytest.approx(0.400 / (52 / 40), abs=1e-3)
    assert report.codec_rtf == pytest.approx(0.080 / 1.3, abs=1e-3)


def test_without_speculation_the_attempt_begins_with_the_endpoint() -> None:
    (report,) = reports(answered(1, 10.0, speculative=False))
    assert (report.speculative, report.started_ms, report.endpoint_ms) == (False, 600.0, 600.0)
    assert (report.engine_ms, report.server_ms) == (520.0, 1140.0)


def test_work_of_no_turn_counts_as_far_as_the_user_waited_for_it() -> None:
    loose = [
        Span(None, "prefill", 11.5, 11.9, 100),  # while the user spoke
        Span(None, "prefill", 11.9, 12.05, 30),  # begun in time, not ready in time
        Span(None, "prefill", 12.05, 12.15, 20),
    ]
    later = Span(None, "memory", 13.5, 14.0, 500)
    (report,) = reports([*loose, *answered(1, 10.0)[:-2], later, *answered(1, 10.0)[-2:]])
    assert report.positions_after_speech == 38 + 20
    assert report.positions == 38
    assert report.waited_ms["prefill"] == 120 + 50 + 100
    assert "memory" not in report.waited_ms


def test_attempts_that_were_forgotten_are_counted_with_the_work_they_wasted() -> None:
    first, second = reports([*resumed(1, 10.0), *noise(3, 20.0), *noise(4, 22.0), *answered(5, 24.0)])
    assert (first.turn, dict(first.forgotten)) == (2, {"resumed": 1})
    assert first.wasted_ms == pytest.approx(300, abs=0.01)  # with the token that was under way
    assert (second.turn, dict(second.forgotten)) == (5, {"noise": 2})
    assert second.wasted_ms == pytest.approx(400, abs=0.01)
    assert first.speech_s == 4.0 and first.server_ms == pytest.approx(700, abs=0.01)


def test_an_attempt_that_nobody_began_wastes_nothing() -> None:
    (report,) = reports([TurnForgotten(9, 5.0, "stopped"), *answered(10, 10.0)])
    assert (report.forgotten, report.wasted_ms) == ({}, 0.0)


def test_an_interruption_is_timed_from_the_decision_to_silence() -> None:
    (report,) = reports(barge_in(1, 10.0))
    assert report.interruption == Interruption(silent_ms=18.0, tokens_heard=6, tokens_written=10)
    assert not report.finished


def test_dry_seconds_and_the_buffer_are_told() -> None:
    (report,) = reports(dry_run(1, 10.0))
    assert (report.dry_s, report.buffer_s) == (0.2, 0.5)


def test_a_reply_without_sound_has_no_clock_of_sound() -> None:
    silent = [event for event in answered(1, 10.0) if not isinstance(event, FirstSound)]
    (report,) = reports(silent)
    assert report.server_ms is None and report.engine_ms == 520.0


def test_every_answered_turn_of_a_long_talk_has_one_report() -> None:
    assert [report.turn for report in reports(talk())] == [1, 3, 5, 6]


def test_a_report_survives_json() -> None:
    for report in reports(talk()):
        assert TurnReport.from_json(json.loads(json.dumps(report.to_json()))) == report


@pytest.mark.parametrize("spoil", [{"turn": 1}, {"wait": [{"name": "audio"}]}, {"more": 1}])
def test_what_is_no_report_is_refused(spoil: dict[str, object]) -> None:
    (report,) = reports(answered(1, 10.0))
    data = spoil if "turn" in spoil else {**report.to_json(), **spoil}
    with pytest.raises(ValueError, match=r"the turn(\.\w+(\[0\]\.\w+)? is missing| has more)"):
        TurnReport.from_json(data)
