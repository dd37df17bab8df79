"""The life of a response: the table, and what holds whatever comes in whatever order."""

from __future__ import annotations

import random
from typing import get_args

import pytest

from vita_edge.runtime.session.response_table import (
    ALIVE,
    ENDED,
    TABLE,
    AudioDone,
    Begin,
    CancelCue,
    DropCue,
    FailCue,
    FirstToken,
    Ignored,
    InterruptCue,
    ResponseCue,
    ResponseMachine,
    ResponseState,
    ResumeCue,
    TextDone,
)

CUES: tuple[ResponseCue, ...] = (
    Begin(),
    FirstToken(),
    TextDone("stop"),
    TextDone("length"),
    AudioDone(),
    InterruptCue(),
    ResumeCue(),
    DropCue(),
    CancelCue(),
    FailCue(),
    Ignored(),
)


def after(*cues: ResponseCue) -> ResponseMachine:
    machine = ResponseMachine()
    for cue in cues:
        machine.step(cue)
    return machine


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_response_is_queued_read_generated_spoken_and_completed(reason: str) -> None:
    machine = ResponseMachine()
    seen = [machine.state]
    for cue in (Begin(), FirstToken(), TextDone(reason), AudioDone()):  # type: ignore[arg-type]
        assert machine.finish_reason is None
        assert machine.step(cue)
        seen.append(machine.state)
    assert seen == ["queued", "reading", "generating", "speaking", "completed"]
    assert machine.finish_reason == reason


def test_an_interruption_that_was_noise_leads_back_to_where_the_response_was() -> None:
    for before in ((Begin(), FirstToken()), (Begin(), FirstToken(), TextDone("stop"))):
        machine = after(*before)
        state = machine.state
        machine.step(InterruptCue())
        assert machine.state == "interrupted" and machine.finish_reason is None
        machine.step(ResumeCue())
        assert machine.state == state


def test_an_interruption_that_was_meant_cuts_the_response_off() -> None:
    machine = after(Begin(), FirstToken(), TextDone("stop"), InterruptCue(), DropCue())
    assert (machine.state, machine.finish_reason) == ("cut_off", "interrupted")


def test_every_living_state_can_be_cancelled_failed_and_ignored() -> None:
    for state in ALIVE:
        for cue, end in ((CancelCue(), "cancelled"), (FailCue(), "failed"), (Ignored(), "noise")):
            machine = ResponseMachine()
            machine.state = state
            machine.step(cue)
            assert machine.ended and machine.finish_reason == end


def test_no_row_of_the_table_is_shadowed_and_every_state_and_cue_is_used() -> None:
    pairs = [(state, row.cue) for row in TABLE for state in row.states]
    assert len(pairs) == len(set(pairs))
    assert {row.cue for row in TABLE} == set(get_args(ResponseCue))
    assert {*ALIVE, *ENDED} == set(get_args(ResponseState))
    assert not {state for row in TABLE for state in row.states} & set(ENDED)


def test_whatever_comes_an_end_is_an_end_and_has_a_reason() -> None:
    chance = random.Random(0)
    ends = set()
    for _ in range(300):
        machine = ResponseMachine()
        for _ in range(200):
            before, reason = machine.state, machine.finish_reason
            changed = machine.step(chance.choice(CUES))
            assert machine.ended == (machine.state in ENDED) == (machine.finish_reason is not None)
            if before in ENDED:
                assert not changed and (machine.state, machine.finish_reason) == (before, reason)
            elif not changed:
                assert machine.state == before
        assert machine.ended
        ends.add(machine.finish_reason)
    assert ends >= {"stop", "length", "interrupted", "noise", "failed", "cancelled"}
