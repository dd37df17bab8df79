"""How much sound must be there before a reply starts: by hand, and by playing it through."""

from __future__ import annotations

import math

import pytest

from vita_edge.runtime.live.jitter_buffer import MARGIN, SUSTAINED, Pace, start_buffer


def test_a_fast_machine_starts_when_what_is_there_lasts_until_the_next_clause() -> None:
    pace = Pace(token_s=0.02, sound_s=0.3, first_piece_s=0.1, clause_tokens=10, token_sound_s=0.2)
    assert start_buffer(pace, unspoken_tokens=5, written=False).seconds == pytest.approx(MARGIN * (0.2 + 0.1))
    assert start_buffer(pace, unspoken_tokens=5, written=True).seconds == pytest.approx(MARGIN * 0.1)


def test_inside_a_clause_what_is_there_lasts_until_its_next_piece_and_its_rest_until_the_next_clause() -> None:
    pace = Pace(token_s=0.02, sound_s=0.4, first_piece_s=0.1, next_piece_s=0.2, clause_tokens=10, token_sound_s=0.2)
    long = start_buffer(pace, unspoken_tokens=5, written=False, clause_s=3.0)
    assert long.seconds == pytest.approx(MARGIN * 0.2)
    short = start_buffer(pace, unspoken_tokens=5, written=False, clause_s=0.1)
    assert short.seconds == pytest.approx(MARGIN * (0.2 + 0.1) - 0.06)


def test_when_all_is_there_nothing_is_waited_for() -> None:
    slow = Pace(token_s=1, sound_s=3, first_piece_s=1)
    assert start_buffer(slow, unspoken_tokens=0, written=True).seconds == 0


def test_a_slow_machine_waits_for_the_text_and_then_for_what_it_cannot_make_in_time() -> None:
    pace = Pace(token_s=0.1, sound_s=1.8, first_piece_s=0.4, token_sound_s=0.25)
    waiting = start_buffer(pace, unspoken_tokens=20, written=False)
    assert waiting.seconds == math.inf and "the text is awaited" in waiting.why
    requested = start_buffer(pace, unspoken_tokens=20, written=True)
    assert requested.seconds == pytest.approx(MARGIN * 0.4 + 5 * (1.8 / SUSTAINED - 1))
    assert "1.8 s to make" in requested.why


@pytest.mark.parametrize("sound_s", [0.5, 0.85, 1.2, 3.0])
@pytest.mark.parametrize("clauses", [[4], [10, 3, 12], [2, 2, 30, 5]])
def test_played_from_there_on_it_never_runs_dry(sound_s: float, clauses: list[int]) -> None:
    """The text is there; the voice makes clause after clause, piece by piece, at its real-time factor."""
    token_sound_s, piece_s = 0.2, 0.5
    pace = Pace(token_s=0.05, sound_s=sound_s, first_piece_s=0.2, token_sound_s=token_sound_s)
    made, now_s, unspoken = 0.0, 0.0, sum(clauses)
    started_s: float | None = None
    for tokens in clauses:
        left = tokens * token_sound_s
        while left > 1e-9:
            piece = min(piece_s, left)
            now_s += piece * sound_s
            if started_s is not None:
                assert now_s - started_s <= made + 1e-9  # it was not dry when the piece came
            made, left = made + piece, left - piece
            if left <= 1e-9:
                unspoken -= tokens
            requested = start_buffer(pace, unspoken_tokens=unspoken, written=True)
            if started_s is None and made >= requested.seconds:
                started_s = now_s
    assert started_s is not None


def test_a_pace_follows_what_is_measured() -> None:
    pace = Pace()
    pace.learn("token_s", 0.1)
    assert pace.token_s == 0.1  # the first figure is taken as it is
    pace.learn("token_s", 0.2)
    assert pace.token_s == pytest.approx(0.125)
